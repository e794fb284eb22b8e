"""Settings: read at once, and refused at once with all that is wrong."""

from dataclasses import fields

import pytest

from chalicelib.config import DEFAULT_RENDITIONS, Settings, parse_renditions, read_settings
from chalicelib.errors import SettingsError
from chalicelib.model import PIPELINE_VERSION, Limits, OutputFormat, RenditionSpec, ResizeMode

STAGE = {
    "STAGE": "dev",
    "UPLOADS_BUCKET": "originals",
    "RENDITIONS_BUCKET": "derived",
    "TABLE_NAME": "catalog",
    "WORK_QUEUE_URL": "https://sqs.eu-central-1.amazonaws.com/123456789012/image-work",
    "TOPIC_ARN": "arn:aws:sns:eu-central-1:123456789012:images",
    "MAX_RECEIVE_COUNT": "5",
}


def read(**variables: str) -> Settings:
    return read_settings(STAGE | variables)


def test_stage_needs_its_resources_and_nothing_else() -> None:
    """What the stack tells of its resources makes a stage; everything else has a default."""
    settings = read()

    assert settings.uploads_bucket == "originals"
    assert settings.work_queue_name == "image-work"
    assert settings.limits == Limits(52_428_800, 100_000_000, 20_000)
    assert settings.renditions == parse_renditions(DEFAULT_RENDITIONS)
    assert (settings.max_labels, settings.min_confidence, settings.image_properties) == (
        20,
        70.0,
        False,
    )
    assert (settings.batch_size, settings.maximum_concurrency, settings.images_in_flight) == (
        10,
        10,
        2,
    )
    assert (settings.max_receive_count, settings.retry_delay_s) == (5, 30)
    assert (settings.fetch_allowed_hosts, settings.fetch_allowed_networks) == ((), ())
    assert (settings.background, settings.keep_gps) == ("#ffffff", False)


def test_default_renditions_are_the_documented_ones() -> None:
    """A thumbnail, two sizes for screens, and a processed copy in a folder of its own."""
    assert parse_renditions(DEFAULT_RENDITIONS) == (
        RenditionSpec("thumbnail", 100, 100, ResizeMode.COVER),
        RenditionSpec("small", 640, 480),
        RenditionSpec("large", 1280, 1280),
        RenditionSpec("optimized", 2048, 2048, prefix="processed"),
    )


def test_everything_missing_is_named_at_once() -> None:
    """An empty environment is told every variable it lacks, in one message."""
    with pytest.raises(SettingsError) as raised:
        read_settings({})

    assert f"missing: {', '.join(STAGE)}" in str(raised.value)
    assert ".chalice/config.json" in str(raised.value)


def test_empty_is_missing_where_a_name_is_needed() -> None:
    """A variable that is there but empty names no resource."""
    with pytest.raises(SettingsError, match="missing: TABLE_NAME"):
        read(TABLE_NAME="")


def test_everything_wrong_is_named_at_once() -> None:
    """What is missing and what cannot be read stand in the same message."""
    with pytest.raises(SettingsError) as raised:
        read(TOPIC_ARN="", MAX_BYTES="many", KEEP_GPS="perhaps")

    message = str(raised.value)
    assert "missing: TOPIC_ARN" in message
    assert "MAX_BYTES is a whole number of 1 or more, not 'many'" in message
    assert "KEEP_GPS is true or false, not 'perhaps'" in message


@pytest.mark.parametrize(
    ("variable", "text", "value"),
    [
        ("MAX_BYTES", "1", 1),
        ("MAX_PIXELS", "400000000", 400_000_000),
        ("MAX_SIDE", "30000", 30_000),
        ("MAX_LABELS", "94", 94),
        ("MAX_RECEIVE_COUNT", "1", 1),
        ("RETRY_DELAY_S", "0", 0),
        ("RETRY_DELAY_S", "900", 900),
        ("MIN_CONFIDENCE", "0", 0.0),
        ("MIN_CONFIDENCE", "99.5", 99.5),
        ("IMAGE_PROPERTIES", "True", True),
        ("KEEP_GPS", "FALSE", False),
        ("BACKGROUND", "#A0b1C2", "#A0b1C2"),
        ("BATCH_SIZE", "10", 10),
        ("MAXIMUM_CONCURRENCY", "2", 2),
        ("IMAGES_IN_FLIGHT", "1", 1),
        ("FETCH_ALLOWED_HOSTS", "a.example,b.example", ("a.example", "b.example")),
        (
            "FETCH_ALLOWED_NETWORKS",
            " 10.0.0.0/8  192.168.0.0/16 ",
            ("10.0.0.0/8", "192.168.0.0/16"),
        ),
        ("FETCH_ALLOWED_HOSTS", "  ", ()),
        ("API_AUTH", "none", "none"),
        ("API_AUTH", "key", "key"),
        ("API_AUTH", "iam", "iam"),
        ("API_ALLOWED_ORIGINS", "", ()),
        ("API_ALLOWED_ORIGINS", "*", ("*",)),
        (
            "API_ALLOWED_ORIGINS",
            "https://a.example, http://localhost:8000",
            ("https://a.example", "http://localhost:8000"),
        ),
    ],
)
def test_variable_is_read(variable: str, text: str, value: object) -> None:
    """Every kind of setting is read as it is documented."""
    assert getattr(read(**{variable: text}), variable.lower()) == value


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("MAX_BYTES", "0"),
        ("MAX_BYTES", "-1"),
        ("MAX_BYTES", "1.5"),
        ("MAX_BYTES", "50 MB"),
        ("MAX_BYTES", ""),
        ("MAX_LABELS", "0"),
        ("MAX_LABELS", "95"),  # a transaction of DynamoDB takes 100 items: see Settings
        ("MAX_RECEIVE_COUNT", "0"),
        ("RETRY_DELAY_S", "-1"),
        ("RETRY_DELAY_S", "901"),
        ("MIN_CONFIDENCE", "-1"),
        ("MIN_CONFIDENCE", "100.1"),
        ("MIN_CONFIDENCE", "nan"),
        ("MIN_CONFIDENCE", "high"),
        ("IMAGE_PROPERTIES", "1"),
        ("BACKGROUND", "white"),
        ("BACKGROUND", "#fff"),
        ("BATCH_SIZE", "11"),  # SQS hands over 10 where no batching window is set
        ("MAXIMUM_CONCURRENCY", "1"),  # AWS: from 2 to 1,000
        ("MAXIMUM_CONCURRENCY", "1001"),
        ("RENDITIONS", ""),
        ("API_AUTH", "nobody"),
        ("API_AUTH", ""),
        ("API_ALLOWED_ORIGINS", "a.example"),
        ("API_ALLOWED_ORIGINS", "https://a.example/"),  # a browser's Origin has no path
        ("API_ALLOWED_ORIGINS", "https://A.example"),
        ("API_ALLOWED_ORIGINS", "https://'a'.example"),
    ],
)
def test_variable_that_makes_no_sense_is_refused(variable: str, text: str) -> None:
    """A bad value is named with its variable, and no stage starts with it."""
    with pytest.raises(SettingsError, match=rf"\({variable} .*{text}"):
        read(**{variable: text})


POOL = {
    "USER_POOL_ARN": "arn:aws:cognito-idp:eu-central-1:123456789012:userpool/eu-central-1_abc",
    "USER_POOL_CLIENT_ID": "client",
}


@pytest.mark.parametrize("missing", POOL)
def test_users_need_a_pool_to_be_in(missing: str) -> None:
    """API_AUTH=cognito without one is told which command makes it."""
    rest = {name: value for name, value in POOL.items() if name != missing}

    with pytest.raises(SettingsError, match=f"{missing}.*`python -m infrastructure deploy`"):
        read(API_AUTH="cognito", **rest)

    assert read(API_AUTH="cognito", **POOL).user_pool_arn == POOL["USER_POOL_ARN"]


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("square 64x64", RenditionSpec("square", 64, 64)),
        ("square 64x64 cover", RenditionSpec("square", 64, 64, ResizeMode.COVER)),
        (
            "hero-2 1600x900 q90 webp cover prefix=web",
            RenditionSpec("hero-2", 1600, 900, ResizeMode.COVER, OutputFormat.WEBP, 90, "web"),
        ),
        ("a 1x1 avif q1", RenditionSpec("a", 1, 1, format=OutputFormat.AVIF, quality=1)),
        ("a 1x1 q100 auto fit", RenditionSpec("a", 1, 1, quality=100)),
    ],
)
def test_rendition_is_a_name_a_box_and_options_in_any_order(text: str, spec: RenditionSpec) -> None:
    """The words after the box may stand in any order."""
    assert parse_renditions(text) == (spec,)


def test_renditions_are_separated_by_commas() -> None:
    """Line breaks, spaces and a comma at the end do not matter."""
    specs = parse_renditions("a 1x1,\n  b 2x2 ,")

    assert [spec.name for spec in specs] == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "trouble"),
    [
        (" , ", "at least one rendition"),
        ("a 1x1, a 2x2", "a name of its own"),
        ("small", "starts with a name and a box"),
        ("640x480", "starts with a name and a box"),
        ("small 640", "starts with a name and a box"),
        ("small 0x480", "starts with a name and a box"),
        ("small 640×480", "starts with a name and a box"),
        ("Small 640x480", "starts with a name and a box"),
        ("../small 640x480", "starts with a name and a box"),
        ("small 640x480 crop", "'crop' is no mode"),
        ("small 640x480 q0", "'q0' is no mode"),
        ("small 640x480 q101", "'q101' is no mode"),
        ("small 640x480 gif", "'gif' is no mode"),
        ("small 640x480 prefix=up/../loads", "'prefix=up/../loads' is no mode"),
    ],
)
def test_rendition_that_cannot_be_read_says_where(text: str, trouble: str) -> None:
    """The message shows the word, and what would be right."""
    with pytest.raises(ValueError, match=trouble):
        parse_renditions(text)


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("RENDITIONS", "small 64x64"),
        ("RENDITIONS", DEFAULT_RENDITIONS + " q79"),
        ("BACKGROUND", "#000000"),
        ("KEEP_GPS", "true"),
        ("MAX_LABELS", "21"),
        ("MIN_CONFIDENCE", "71"),
        ("IMAGE_PROPERTIES", "true"),
    ],
)
def test_version_of_the_recipe_changes_with_what_shapes_a_result(variable: str, text: str) -> None:
    """What would come out otherwise than before is told apart by its version."""
    version = read(**{variable: text}).recipe_version

    assert version != read().recipe_version
    assert version == read(**{variable: text}).recipe_version
    assert version.startswith(f"{PIPELINE_VERSION}-")


def test_version_of_the_recipe_is_the_same_whatever_else_is_set() -> None:
    """Neither a resource nor a limit, a pace or a permission changes what comes out."""
    others = {
        **{name: "https://sqs.example/1/other" for name in STAGE if name != "MAX_RECEIVE_COUNT"},
        "MAX_RECEIVE_COUNT": "9",
        "MAX_BYTES": "1000",
        "MAX_PIXELS": "1000",
        "MAX_SIDE": "1000",
        "BATCH_SIZE": "1",
        "MAXIMUM_CONCURRENCY": "2",
        "IMAGES_IN_FLIGHT": "1",
        "RETRY_DELAY_S": "1",
        "API_AUTH": "cognito",
        "API_ALLOWED_ORIGINS": "*",
        **POOL,
        "FETCH_ALLOWED_HOSTS": "a.example",
        "FETCH_ALLOWED_NETWORKS": "10.0.0.0/8",
    }
    shaping = {
        *("RENDITIONS", "BACKGROUND", "KEEP_GPS"),
        *("MAX_LABELS", "MIN_CONFIDENCE", "IMAGE_PROPERTIES"),
    }

    assert read(**others).recipe_version == read().recipe_version
    assert others.keys() | shaping == {setting.name.upper() for setting in fields(Settings)}


def test_every_setting_says_what_it_is() -> None:
    """Documentation is made of these sentences."""
    for setting in fields(Settings):
        assert setting.metadata["about"].endswith("."), setting.name


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("FETCH_ALLOWED_NETWORKS", "10.0.0.0/8 nonsense"),
        ("RENDITIONS", "small 64x64 fit cover"),
        ("RENDITIONS", "small 64x64 jpeg webp"),
    ],
)
def test_contradictions_are_found_at_the_start(variable: str, text: str) -> None:
    """A network that is none, or two modes of one rendition, is named by its variable."""
    with pytest.raises(SettingsError, match=variable):
        read(**{variable: text})
