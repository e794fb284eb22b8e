"""Settings: everything that may differ between stages, read once from the environment."""

import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from ipaddress import ip_network
from typing import Any

from chalicelib.errors import SettingsError
from chalicelib.model import (
    PIPELINE_VERSION,
    Limits,
    OutputFormat,
    RenditionSpec,
    ResizeMode,
    digest,
)

UPLOADS_PREFIX = "uploads/"
"""Where originals live in the uploads bucket. Only keys under it trigger the pipeline."""

AUTHS = ("none", "key", "iam", "cognito")
"""The ways in which API Gateway can tell who may call the API."""

DEFAULT_RENDITIONS = (
    "thumbnail 100x100 cover, "
    "small 640x480 fit, "
    "large 1280x1280 fit, "
    "optimized 2048x2048 fit prefix=processed"
)


def parse_renditions(text: str) -> tuple[RenditionSpec, ...]:
    """Specs from ``name WIDTHxHEIGHT [fit|cover|attention] [format] [qNN] [prefix=folder], …``.

    ``webp`` and ``q75`` may stand in any order. Raises ValueError naming the word it cannot read.
    """
    specs = tuple(_parse_rendition(part) for part in text.split(",") if part.strip())
    names = [spec.name for spec in specs]
    if not specs or len(set(names)) != len(names):
        raise ValueError(f"needs at least one rendition, each with a name of its own: {text!r}")
    return specs


def _parse_rendition(text: str) -> RenditionSpec:
    words = text.split()
    size = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", words[1]) if len(words) > 1 else None
    if size is None or not re.fullmatch(r"[a-z][a-z0-9_-]*", words[0]):
        raise ValueError(
            f"a rendition starts with a name and a box, as in 'small 640x480': {text!r}"
        )
    options: dict[str, Any] = {}
    for word in words[2:]:
        name, value = _rendition_option(word)
        if name in options:
            raise ValueError(f"{words[0]!r} has two of {name}: {text!r}")
        options[name] = value
    return RenditionSpec(name=words[0], width=int(size[1]), height=int(size[2]), **options)


def _rendition_option(word: str) -> tuple[str, Any]:
    if word in list(ResizeMode):
        return "mode", ResizeMode(word)
    if word in list(OutputFormat):
        return "format", OutputFormat(word)
    if re.fullmatch(r"q([1-9]\d?|100)", word):
        return "quality", int(word[1:])
    if prefix := re.fullmatch(r"prefix=([a-z0-9-]+)", word):
        return "prefix", prefix[1]
    raise ValueError(f"{word!r} is no mode, format, quality (q80) or prefix=folder")


def parse_switch(text: str) -> bool:
    """``true`` or ``false``, in any case."""
    switches = {"true": True, "false": False}
    if text.lower() not in switches:
        raise ValueError(f"is true or false, not {text!r}")
    return switches[text.lower()]


def parse_words(text: str) -> tuple[str, ...]:
    """Words between commas or spaces."""
    return tuple(re.split(r"[,\s]+", text.strip())) if text.strip() else ()


def parse_networks(text: str) -> tuple[str, ...]:
    """Networks in CIDR, between commas or spaces."""
    words = parse_words(text)
    for word in words:
        ip_network(word)  # raises ValueError that names the word
    return words


def parse_count(text: str) -> int:
    """A whole number of 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"is a whole number of 1 or more, not {text!r}")
    return int(text)


def count_within(least: int, most: int) -> Callable[[str], int]:
    """Parses a whole number within limits that AWS sets."""

    def parse(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            raise ValueError(f"is a whole number from {least} to {most}, not {text!r}")
        return int(text)

    return parse


def parse_percent(text: str) -> float:
    """A number from 0 to 100."""
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", text) or float(text) > 100:  # noqa: PLR2004
        raise ValueError(f"is a number from 0 to 100, not {text!r}")
    return float(text)


def parse_color(text: str) -> str:
    """A colour as ``#rrggbb``."""
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", text):
        raise ValueError(f"is a colour as #rrggbb, not {text!r}")
    return text


def parse_auth(text: str) -> str:
    """One of AUTHS."""
    if text not in AUTHS:
        raise ValueError(f"is one of {', '.join(AUTHS)}, not {text!r}")
    return text


def parse_origins(text: str) -> tuple[str, ...]:
    """Origins as browsers write them (RFC 6454, 6.2), between commas or spaces; ``*`` is any."""
    words = parse_words(text)
    for word in words:
        if not re.fullmatch(r"\*|https?://[a-z0-9.:\[\]-]+", word):
            raise ValueError(f"has origins as https://example.com (or *), not {word!r}")
    return words


def _setting(parse: Callable[[str], Any], about: str, default: Any = MISSING) -> Any:
    """A field of Settings; its variable is the field's name in capitals, its default a text."""
    return field(metadata={"parse": parse, "about": about, "default": default})


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """The variables of a stage. ``docs/settings.md`` lists the same; a test holds them together."""

    stage: str = _setting(str, "Name of the stage, which its metrics are told apart by.")
    uploads_bucket: str = _setting(str, "Bucket that originals are uploaded to, under `uploads/`.")
    renditions_bucket: str = _setting(str, "Bucket that renditions are written to.")
    table_name: str = _setting(str, "DynamoDB table of the catalog.")
    work_queue_url: str = _setting(str, "URL of the SQS queue between upload and processing.")
    topic_arn: str = _setting(str, "SNS topic that finished and failed images are announced on.")
    max_receive_count: int = _setting(
        parse_count,
        "How often a message of the work queue is received before it goes to the dead-letter "
        "queue; the queue's own redrive policy.",
    )
    renditions: tuple[RenditionSpec, ...] = _setting(
        parse_renditions,
        "What is made of each original; see [Renditions](#renditions).",
        DEFAULT_RENDITIONS,
    )
    background: str = _setting(
        parse_color, "What shows through where a format has no transparency.", "#ffffff"
    )
    keep_gps: bool = _setting(
        parse_switch, "Whether the place a photo was taken at goes into the catalog.", "false"
    )
    max_bytes: int = _setting(parse_count, "Largest original, in bytes.", "52428800")
    max_pixels: int = _setting(
        parse_count, "Most pixels of an original, all frames together.", "100000000"
    )
    max_side: int = _setting(parse_count, "Longest side of an original, in pixels.", "20000")
    max_labels: int = _setting(
        # A transaction of DynamoDB takes 100 items: see WRITES in chalicelib/aws/catalog.py.
        count_within(1, 94),
        "Most labels asked of Rekognition per image, up to 94.",
        "20",
    )
    min_confidence: float = _setting(
        parse_percent, "Least confidence of a label, in percent.", "70"
    )
    image_properties: bool = _setting(
        parse_switch,
        "Whether Rekognition also tells colours, brightness, sharpness and contrast "
        "(billed on top).",
        "false",
    )
    batch_size: int = _setting(
        # SQS hands over no more where no batching window is set.
        count_within(1, 10),
        "Most images handed to one invocation of `process_images`, up to 10.",
        "10",
    )
    maximum_concurrency: int = _setting(
        count_within(2, 1000),
        "Most invocations of `process_images` at once, from 2 to 1000.",
        "10",
    )
    images_in_flight: int = _setting(
        parse_count, "Images of one batch decoded side by side; bounds the memory.", "2"
    )
    retry_delay_s: int = _setting(
        count_within(0, 900),
        "Seconds until what failed is tried again, up to 900; four times as many each further "
        "time, up to an hour.",
        "30",
    )
    api_auth: str = _setting(
        parse_auth,
        "Who may call the API: `iam` (requests signed by AWS credentials), `cognito` (users of the "
        "stage's pool), `key` (holders of its API key) or `none` (anybody).",
        "iam",
    )
    user_pool_arn: str = _setting(
        str, "Cognito user pool of `API_AUTH=cognito`; comes from the stack.", ""
    )
    user_pool_client_id: str = _setting(
        str, "App client of that pool which the page signs in with; comes from the stack.", ""
    )
    api_allowed_origins: tuple[str, ...] = _setting(
        parse_origins,
        "Origins whose pages may call the API, as `https://example.com`; `*`: any; empty: none "
        "but its own.",
        "",
    )
    fetch_allowed_hosts: tuple[str, ...] = _setting(
        parse_words, "Hosts that images are fetched from by URL; empty: any public one.", ""
    )
    fetch_allowed_networks: tuple[str, ...] = _setting(
        parse_networks, "Private networks (CIDR) that images may be fetched from by URL.", ""
    )

    @property
    def limits(self) -> Limits:
        return Limits(max_bytes=self.max_bytes, max_pixels=self.max_pixels, max_side=self.max_side)

    @property
    def recipe_version(self) -> str:
        """Changes when the same original would give another result.

        The pipeline's version, and a digest of the settings that shape a result.
        """
        shaping = (
            *(self.renditions, self.background, self.keep_gps),
            *(self.max_labels, self.min_confidence, self.image_properties),
        )
        return f"{PIPELINE_VERSION}-{digest(repr(shaping))[:6]}"

    @property
    def work_queue_name(self) -> str:
        return self.work_queue_url.rpartition("/")[2]


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Settings from the environment.

    Raises SettingsError that names every missing and every unreadable variable at once.
    """
    values: dict[str, Any] = {}
    missing: list[str] = []
    unreadable: list[str] = []
    for setting in fields(Settings):
        variable = setting.name.upper()
        text = environ.get(variable, setting.metadata["default"])
        if text is MISSING or (text == "" and setting.metadata["default"] is MISSING):
            missing.append(variable)
            continue
        try:
            values[setting.name] = setting.metadata["parse"](text)
        except ValueError as error:
            unreadable.append(f"{variable} {error}")
    if values.get("api_auth") == "cognito" and not (
        values["user_pool_arn"] and values["user_pool_client_id"]
    ):
        unreadable.append(
            "API_AUTH is cognito, but USER_POOL_ARN or USER_POOL_CLIENT_ID is not set: "
            "`python -m infrastructure deploy` makes the pool and sets them"
        )
    problems = [f"missing: {', '.join(missing)}"] if missing else []
    if problems := problems + unreadable:
        raise SettingsError(
            f"The environment does not make a stage ({'; '.join(problems)}). On AWS the stage in "
            ".chalice/config.json sets these variables; `make run` sets them on a laptop."
        )
    return Settings(**values)
