"""Settings: everything that may differ between stages, read once from the environment."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from ipaddress import ip_network
from typing import Any

from chalicelib.errors import SettingsError
from chalicelib.model import (
    ANY_LABEL,
    MAILTO,
    PIPELINE_VERSION,
    QUARANTINE_PREFIX,
    Destination,
    EventKind,
    Feature,
    FeatureSpec,
    Limits,
    OutputFormat,
    QuarantineRule,
    RenditionSpec,
    ResizeMode,
    Secret,
    digest,
    is_mail_address,
    is_secret,
)
from chalicelib.moderation import TAXONOMY

UPLOADS_PREFIX = "uploads/"
"""Where originals live in the uploads bucket. Only keys under it trigger the pipeline."""

AUTHS = ("none", "key", "iam", "cognito")
"""The ways in which API Gateway can tell who may call the API."""

INLINE, STEP_FUNCTIONS = "inline", "stepfunctions"
"""Who takes an image through its stages: the worker, or a state machine."""

DEFAULT_RENDITIONS = (
    "thumbnail 100x100 cover, "
    "small 640x480 fit, "
    "large 1280x1280 fit, "
    "optimized 2048x2048 fit prefix=processed"
)

DEFAULT_RECOGNITION = "labels 20 70%"

FEATURES = {
    Feature.LABELS: FeatureSpec(Feature.LABELS, 20, 70.0),
    Feature.PROPERTIES: FeatureSpec(Feature.PROPERTIES),
    Feature.MODERATION: FeatureSpec(Feature.MODERATION, 100, 50.0),
    Feature.FACES: FeatureSpec(Feature.FACES, 20, 80.0),
    Feature.TEXT: FeatureSpec(Feature.TEXT, 50, 80.0),
    Feature.CELEBRITIES: FeatureSpec(Feature.CELEBRITIES, 20, 80.0),
}
"""What a feature is that stands alone."""

MAX_COUNTS = {
    # A transaction of DynamoDB takes 100 items: see WRITES in chalicelib/aws/catalog.py.
    Feature.LABELS: 90,
    Feature.MODERATION: 100,  # more than there are: see TAXONOMY in chalicelib/moderation.py
    Feature.FACES: 100,
    Feature.TEXT: 100,
    Feature.CELEBRITIES: 64,
}
"""The most that can be kept: Rekognition finds no more faces, words and celebrities anyway."""

FACE_ATTRIBUTES = (
    *("ALL", "AGE_RANGE", "BEARD", "EMOTIONS", "EYEGLASSES", "EYES_OPEN", "EYE_DIRECTION"),
    *("FACE_OCCLUDED", "GENDER", "MOUTH_OPEN", "MUSTACHE", "SMILE", "SUNGLASSES"),
)
"""What Rekognition can be asked about faces, beside where they are."""

REPLACED = ("MAX_LABELS", "MIN_CONFIDENCE", "IMAGE_PROPERTIES")
"""Variables that were once what RECOGNITION is now."""


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
    if word == f"prefix={QUARANTINE_PREFIX}":
        raise ValueError(f"{word!r} is the folder of what is withheld: choose another one")
    if prefix := re.fullmatch(r"prefix=([a-z0-9-]+)", word):
        return "prefix", prefix[1]
    raise ValueError(f"{word!r} is no mode, format, quality (q80) or prefix=folder")


def parse_recognition(text: str) -> tuple[FeatureSpec, ...]:
    """Features from ``name [most] [confidence%] [attribute …], …``, in any case; empty is none.

    The words behind the name may stand in any order. Raises ValueError naming the word it cannot
    read.
    """
    specs = tuple(_parse_feature(part) for part in text.split(",") if part.strip())
    for spec in specs:
        if [each.feature for each in specs].count(spec.feature) > 1:
            raise ValueError(f"has {spec.feature} twice: {text!r}")
    return specs


def _parse_feature(text: str) -> FeatureSpec:
    name, *words = text.lower().split()
    if name not in list(Feature):
        raise ValueError(f"{name!r} is none of {', '.join(Feature)}")
    feature = Feature(name)
    known = FACE_ATTRIBUTES if feature is Feature.FACES else ()
    attributes = {word.upper() for word in words}.intersection(known)
    options: dict[str, Any] = {}
    for word in words:
        if word.upper() not in attributes:
            option, value = _feature_option(word, feature)
            if option in options:
                raise ValueError(f"{name!r} has two of {option}: {text!r}")
            options[option] = value
    # Sorted, so that what means the same makes the same recipe_version.
    asked = ("ALL",) if "ALL" in attributes else tuple(sorted(attributes))
    return replace(FEATURES[feature], **options, attributes=asked)


def _feature_option(word: str, feature: Feature) -> tuple[str, Any]:
    if feature is Feature.PROPERTIES:
        raise ValueError(f"{word!r} is behind properties, which take no words")
    most = MAX_COUNTS[feature]
    if word.isdecimal() and 1 <= int(word) <= most:
        return "max_count", int(word)
    if (confidence := _confidence(word)) is not None:
        return "min_confidence", confidence
    attributes = f", nor one of {', '.join(FACE_ATTRIBUTES).lower()}"
    raise ValueError(
        f"{word!r} is no number of {feature} from 1 to {most} and no confidence from 0% to 100%"
        f"{attributes if feature is Feature.FACES else ''}"
    )


def _confidence(word: str) -> float | None:
    """What ``70%`` says; None where a word is no percentage."""
    percent = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)%", word)
    return float(percent[1]) if percent and float(percent[1]) <= 100 else None  # noqa: PLR2004


def parse_quarantine(text: str) -> tuple[QuarantineRule, ...]:
    """Rules from ``label confidence%, label never, any confidence%, …``; empty is none.

    Labels are those of TAXONOMY in any case, of several words perhaps. Raises ValueError naming the
    rule it cannot read, or the label that there is not, with the nearest.
    """
    rules = tuple(_parse_rule(part) for part in text.split(",") if part.strip())
    labels = [rule.label.casefold() for rule in rules]
    for rule, label in zip(rules, labels, strict=True):
        if labels.count(label) > 1:
            raise ValueError(f"has two rules for {rule.label!r}: {text!r}")
    if rules and all(rule.min_confidence is None for rule in rules):
        raise ValueError(f"withholds nothing, without a rule such as 'any 80%': {text!r}")
    return rules


def _parse_rule(text: str) -> QuarantineRule:
    *words, last = text.split()
    confidence = _confidence(last)
    is_legible = last.lower() == "never" or confidence is not None
    is_one_rule = not any("%" in word or word.lower() == "never" for word in words)
    if not (words and is_legible and is_one_rule):
        raise ValueError(
            "has rules as 'Violence 80%' (from 0% to 100%) or 'Alcohol never', with commas in "
            f"between, not {text.strip()!r}"
        )
    return QuarantineRule(_moderation_label(" ".join(words)), confidence)


def _moderation_label(name: str) -> str:
    """The label of that name in whatever case, as Rekognition spells it, or ANY_LABEL."""
    labels = {label.casefold(): label for label in (ANY_LABEL, *TAXONOMY)}
    if label := labels.get(name.casefold()):
        return label
    from difflib import get_close_matches  # noqa: PLC0415 - for who misspells alone

    nearest = get_close_matches(name.casefold(), labels, n=1)
    hint = (
        f"the nearest is {labels[nearest[0]]!r}"
        if nearest
        else "all stand at https://docs.aws.amazon.com/rekognition/latest/dg/moderation-api.html"
    )
    raise ValueError(f"has a rule for {name!r}, which is no moderation label: {hint}")


def parse_webhooks(text: str) -> tuple[Destination, ...]:
    """Destinations from ``URL [STATUS+STATUS] [label=name …], …``; empty is none.

    The names of labels may have several words. Raises ValueError naming what it cannot read.
    """
    destinations = tuple(_parse_webhook(part) for part in text.split(",") if part.strip())
    urls = [destination.url for destination in destinations]
    if len(set(urls)) != len(urls):
        raise ValueError(f"has a URL twice: {text!r}")
    return destinations


def _parse_webhook(text: str) -> Destination:
    words, *labels = re.split(r"\s+label=", text.strip())
    url, *rest = words.split()
    statuses = tuple(rest[0].upper().split("+")) if rest else ()
    is_legible = len(rest) <= 1 and {*statuses} <= {*EventKind} and all(labels)
    is_address = url.startswith(MAILTO) and is_mail_address(url.removeprefix(MAILTO))
    if not (is_legible and (is_address or re.match(r"https?://", url))):
        raise ValueError(
            "has destinations as 'https://example.com/hook COMPLETED+FAILED label=Cat' or "
            "'mailto:ada@example.com', with "
            f"commas in between and statuses of {', '.join(EventKind)}, not {text.strip()!r}"
        )
    return Destination(
        destination_id=digest(url),
        url=url,
        statuses=statuses,
        labels=tuple(labels),
        is_configured=True,
    )


def parse_secrets(text: str) -> tuple[Secret, ...]:
    """Secrets of webhooks, newest first, between commas or spaces. Shown nowhere, nor in errors."""
    secrets = parse_words(text)
    if not all(map(is_secret, secrets)):
        raise ValueError("is whsec_ and 24 to 64 bytes in base64")
    return tuple(map(Secret, secrets))


def parse_sender(text: str) -> str:
    """``images@example.com`` or ``Images <images@example.com>``; empty is nobody."""
    named = re.fullmatch(r"""[^<>@,;"\\\x00-\x1f\x7f]+ <([^<>]+)>""", text)
    if text and not is_mail_address(named[1] if named else text):
        raise ValueError(f"is as 'Images <images@example.com>', not {text!r}")
    return text


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


def parse_orchestration(text: str) -> str:
    """``inline`` or ``stepfunctions``."""
    if text not in (INLINE, STEP_FUNCTIONS):
        raise ValueError(f"is {INLINE} or {STEP_FUNCTIONS}, not {text!r}")
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
    webhook_queue_url: str = _setting(
        str, "URL of the SQS queue of what is told to webhooks, and is yet to be."
    )
    topic_arn: str = _setting(str, "SNS topic that finished and failed images are announced on.")
    event_bus_name: str = _setting(
        str, "EventBridge bus that the same is put on; comes from the stack. Empty: none.", ""
    )
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
        parse_color,
        "What shows through where a format has no transparency. Rekognition is shown a see-through "
        "picture on white, black or grey, whichever least of it is lost on.",
        "#ffffff",
    )
    keep_gps: bool = _setting(
        parse_switch, "Whether the place a photo was taken at goes into the catalog.", "false"
    )
    max_bytes: int = _setting(parse_count, "Largest original, in bytes.", "52428800")
    max_pixels: int = _setting(
        parse_count, "Most pixels of an original, all frames together.", "100000000"
    )
    max_side: int = _setting(parse_count, "Longest side of an original, in pixels.", "20000")
    recognition: tuple[FeatureSpec, ...] = _setting(
        parse_recognition,
        "What Rekognition is asked about each image; see [Recognition](#recognition). Empty: "
        "nothing.",
        DEFAULT_RECOGNITION,
    )
    quarantine: tuple[QuarantineRule, ...] = _setting(
        parse_quarantine,
        "Which moderation labels withhold an image until a reviewer has released it; see "
        "[Quarantine](#quarantine). Empty: none.",
        "",
    )
    duplicate_distance: int = _setting(
        count_within(0, 7),
        "Bits, up to 7 of 64, by which the perceptual hashes of near duplicates differ at most.",
        "3",
    )
    reuse_recognition: bool = _setting(
        parse_switch,
        "Whether an image with the same bytes as another takes over what Rekognition said of "
        "that one, and is not paid for again.",
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
    orchestration: str = _setting(
        parse_orchestration,
        "Who takes images through their stages: the worker itself (`inline`) or a state machine "
        "(`stepfunctions`); see [Orchestration](orchestration.md).",
        INLINE,
    )
    state_machine_arn: str = _setting(
        str, "State machine of `ORCHESTRATION=stepfunctions`; comes from its stack.", ""
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

    webhooks: tuple[Destination, ...] = _setting(
        parse_webhooks,
        "Who is told of images by webhooks, beside those registered over the API; see "
        "[Webhooks](#webhooks).",
        "",
    )
    webhook_secret: tuple[Secret, ...] = _setting(
        parse_secrets,
        "What messages to `WEBHOOKS` are signed with: `whsec_` and base64 of 32 random bytes. Two, "
        "newest first, while it is replaced.",
        "",
    )
    webhook_allowed_networks: tuple[str, ...] = _setting(
        parse_networks,
        "Private networks (CIDR) that webhooks may be sent to; there, over plain HTTP and to any "
        "port, too.",
        "",
    )
    mail_from: str = _setting(
        parse_sender,
        "Who sends [mails](webhooks.md#mails) about images, as `Images <images@example.com>`: an "
        "address that SES has verified, or of such a domain. Empty: no mails.",
        "",
    )
    webhook_concurrency: int = _setting(
        count_within(2, 1000),
        "Most invocations of `deliver_webhooks` at once, from 2 to 1000.",
        "5",
    )

    @property
    def limits(self) -> Limits:
        return Limits(max_bytes=self.max_bytes, max_pixels=self.max_pixels, max_side=self.max_side)

    @property
    def features(self) -> tuple[Feature, ...]:
        """What Rekognition is asked about, and is paid for."""
        return tuple(spec.feature for spec in self.recognition)

    @property
    def recipe_version(self) -> str:
        """Changes when the same original would give another result.

        The pipeline's version, and a digest of the settings that shape a result.
        """
        shaping = (
            *(self.renditions, self.background, self.keep_gps),
            *(sorted(map(repr, self.recognition)), sorted(map(repr, self.quarantine))),
            self.duplicate_distance,
        )
        return f"{PIPELINE_VERSION}-{digest(repr(shaping))[:6]}"

    @property
    def work_queue_name(self) -> str:
        return self.work_queue_url.rpartition("/")[2]

    @property
    def webhook_queue_name(self) -> str:
        return self.webhook_queue_url.rpartition("/")[2]


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
    unreadable += [*_contradictions(values), *_replaced(environ)]
    problems = [f"missing: {', '.join(missing)}"] if missing else []
    if problems := problems + unreadable:
        raise SettingsError(
            f"The environment does not make a stage ({'; '.join(problems)}). On AWS the stage in "
            ".chalice/config.json sets these variables; `make run` sets them on a laptop."
        )
    return Settings(**values)


def _contradictions(values: Mapping[str, Any]) -> Iterator[str]:
    """What cannot be had together, of the settings that could be read."""
    if values.get("api_auth") == "cognito" and not (
        values["user_pool_arn"] and values["user_pool_client_id"]
    ):
        yield (
            "API_AUTH is cognito, but USER_POOL_ARN or USER_POOL_CLIENT_ID is not set: "
            "`python -m infrastructure deploy` makes the pool and sets them"
        )
    told = values.get("webhooks", ())
    if any(each.is_mailed for each in told) and values.get("mail_from") == "":
        yield "WEBHOOKS names addresses, but MAIL_FROM is not set: nobody would send the mails"
    if not all(each.is_mailed for each in told) and values.get("webhook_secret") == ():
        yield (
            "WEBHOOKS names destinations, but WEBHOOK_SECRET is not set: they could not tell who "
            "calls them"
        )
    if values.get("orchestration") == STEP_FUNCTIONS and not values["state_machine_arn"]:
        yield (
            "ORCHESTRATION is stepfunctions, but STATE_MACHINE_ARN is not set: "
            "`python -m infrastructure deploy` makes the state machine and sets it"
        )
    if "recognition" not in values or not values.get("quarantine"):
        return
    moderation = [each for each in values["recognition"] if each.feature is Feature.MODERATION]
    if not moderation:
        yield (
            "QUARANTINE has rules, but RECOGNITION asks for no moderation labels: add "
            "'moderation' to it, or leave QUARANTINE empty"
        )
        return
    most, least = moderation[0].max_count, moderation[0].min_confidence
    if most < MAX_COUNTS[Feature.MODERATION]:
        yield (
            f"QUARANTINE has rules, but RECOGNITION keeps {most} moderation labels at most, and "
            f"what is not kept withholds nothing: leave the {most} behind 'moderation' out"
        )
    for rule in values["quarantine"]:
        if rule.min_confidence is not None and rule.min_confidence < least:
            yield (
                f"QUARANTINE has {rule.label!r} from {rule.min_confidence:g} % on, but RECOGNITION "
                f"asks for moderation labels of {least:g} % at least: raise the one, or lower the "
                f"other ('moderation {rule.min_confidence:g}%')"
            )


def _replaced(environ: Mapping[str, str]) -> Iterator[str]:
    """Variables of former versions: whoever sets one relies on it."""
    if found := [variable for variable in REPLACED if variable in environ]:
        most, least = environ.get("MAX_LABELS", "20"), environ.get("MIN_CONFIDENCE", "70")
        is_more = environ.get("IMAGE_PROPERTIES", "").lower() == "true"
        recognition = f"labels {most} {least}%{', properties' if is_more else ''}"
        yield (
            f"{', '.join(found)} {'is' if len(found) == 1 else 'are'} no more: "
            f"set RECOGNITION instead, to {recognition!r}"
        )
