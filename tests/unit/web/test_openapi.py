"""The API's description is of the API as it is."""

import re
import runpy
from typing import Any

import pytest
from openapi_spec_validator import validate

import app
from chalicelib.bootstrap import settings
from chalicelib.errors import RequestError
from chalicelib.web import operations
from chalicelib.web.openapi import document
from chalicelib.web.operations import Operation
from chalicelib.web.parameters import Parameter, read_members, read_query

AUTHS = ("none", "key", "iam", "cognito")


def described(auth: str = "none") -> dict[str, Any]:
    """The description of the app as a stage declares it that knows its callers so."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("API_AUTH", auth)
        patch.setenv("USER_POOL_ARN", "arn:aws:cognito-idp:eu-west-1:123456789012:userpool/a")
        patch.setenv("USER_POOL_CLIENT_ID", "client")
        settings.cache_clear()
        try:
            made = runpy.run_path(str(app.__file__))["app"]
            return document(made.routes, settings())
        finally:
            settings.cache_clear()


def all_operations() -> list[tuple[str, Operation]]:
    return [(name, each) for name, each in vars(operations).items() if isinstance(each, Operation)]


@pytest.mark.parametrize("auth", AUTHS)
def test_the_description_is_openapi(auth: str) -> None:
    """As the specification's own schema has it, whichever way callers are known."""
    validate(described(auth))


def test_every_route_is_described() -> None:
    """Every declared operation has its route, and every route that people call its operation."""
    routed = [
        route.view_function.operation
        for methods in app.app.routes.values()
        for route in methods.values()
        if hasattr(route.view_function, "operation")
    ]
    assert {id(each) for each in routed} == {id(each) for _, each in all_operations()}
    paths = described()["paths"]
    assert set(paths) == set(app.app.routes)
    names = [each["operationId"] for methods in paths.values() for each in methods.values()]
    assert len(set(names)) == len(names) == len(all_operations())


@pytest.mark.parametrize(("name", "operation"), all_operations(), ids=lambda value: str(value)[:20])
def test_parameters_of_a_path_are_declared(name: str, operation: Operation) -> None:
    """Those between braces, and no others."""
    [path] = {
        path
        for path, methods in app.app.routes.items()
        for route in methods.values()
        if getattr(route.view_function, "operation", None) is operation
    }
    declared = {each.name for each in operation.parameters if each.where == "path"}
    assert declared == set(re.findall(r"{(\w+)}", path)), name


@pytest.mark.parametrize("auth", AUTHS)
def test_who_may_call_is_described_as_it_is(auth: str) -> None:
    """The scheme of the stage, and which operations are open."""
    shown = described(auth)
    assert bool(shown["security"]) == (auth != "none")
    assert len(shown["components"].get("securitySchemes", {})) == (auth != "none")
    opened = {
        path
        for path, methods in shown["paths"].items()
        if methods.get("get", {}).get("security") == []
    }
    everything = {path for path, methods in shown["paths"].items() if "get" in methods}
    pages = {"/", "/docs", "/openapi.json", "/health", "/static/{name}"}
    assert opened == {"none": everything, "iam": {"/health"}}.get(auth, pages)


def parameters() -> list[Parameter]:
    found = [each for _, operation in all_operations() for each in operation.parameters]
    bodies = [body for _, operation in all_operations() for body in operation.bodies.values()]
    return [*found, *(each for body in bodies for each in body)]


@pytest.mark.parametrize("parameter", parameters(), ids=lambda parameter: parameter.name)
def test_examples_can_be_read(parameter: Parameter) -> None:
    """What is shown as an example is taken, and so is the default."""
    if parameter.where == "query":
        shown = parameter.example if parameter.repeats else [str(parameter.example)]
        others = [each for each in parameters() if each.name in parameter.qualifies]
        beside = {each.name: each.example for each in others[:1]}
        read_query([parameter, *others], beside | {parameter.name: shown})
        if parameter.default:
            read_query([parameter], {parameter.name: [str(parameter.default)]})
    elif parameter.where == "body" and parameter.example is not None:
        read_members([parameter], {parameter.name: parameter.example})


def test_every_refusal_is_documented() -> None:
    """Each error of a request belongs to an operation, but for what no operation can help."""
    declared = {error for _, operation in all_operations() for error in operation.errors}
    everywhere = {"busy", "method_not_allowed"}
    assert {error.code for error in leaves(RequestError)} == {
        error.code for error in declared
    } | everywhere


def leaves(kind: type[RequestError]) -> list[type[RequestError]]:
    return [leaf for each in kind.__subclasses__() for leaf in leaves(each)] or [kind]
