"""Settings: read at once, and refused at once with all that is wrong."""

from collections.abc import Callable
from dataclasses import fields

import pytest
from botocore.session import get_session

from chalicelib.config import (
    DEFAULT_RENDITIONS,
    FACE_ATTRIBUTES,
    FEATURES,
    MAX_COUNTS,
    Settings,
    parse_quarantine,
    parse_recognition,
    parse_renditions,
    read_settings,
)
from chalicelib.errors import SettingsError
from chalicelib.model import (
    ANY_LABEL,
    PIPELINE_VERSION,
    Destination,
    Feature,
    FeatureSpec,
    Limits,
    OutputFormat,
    QuarantineRule,
    RenditionSpec,
    ResizeMode,
    Secret,
    digest,
)
from chalicelib.moderation import TAXONOMY

STAGE = {
    "STAGE": "dev",
    "UPLOADS_BUCKET": "originals",
    "RENDITIONS_BUCKET": "derived",
    "TABLE_NAME": "catalog",
    "WORK_QUEUE_URL": "https://sqs.eu-central-1.amazonaws.com/123456789012/image-work",
    "WEBHOOK_QUEUE_URL": "https://sqs.eu-central-1.amazonaws.com/123456789012/image-webhooks",
    "TOPIC_ARN": "arn:aws:sns:eu-central-1:123456789012:images",
    "MAX_RECEIVE_COUNT": "5",
}

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwN5o3oXv1GYs="  # noqa: S105 - nobody's


def read(**variables: str) -> Settings:
    return read_settings(STAGE | variables)


def test_stage_needs_its_resources_and_nothing_else() -> None:
    """What the stack tells of its resources makes a stage; everything else has a default."""
    settings = read()

    assert settings.uploads_bucket == "originals"
    assert settings.work_queue_name == "image-work"
    assert settings.limits == Limits(52_428_800, 100_000_000, 20_000)
    assert settings.renditions == parse_renditions(DEFAULT_RENDITIONS)
    assert settings.recognition == (FeatureSpec(Feature.LABELS, 20, 70),)
    assert settings.features == (Feature.LABELS,)
    assert (settings.quarantine, settings.duplicate_distance) == ((), 3)
    assert settings.reuse_recognition is False
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
        ("MAX_RECEIVE_COUNT", "1", 1),
        ("RETRY_DELAY_S", "0", 0),
        ("RETRY_DELAY_S", "900", 900),
        ("RECOGNITION", "", ()),
        ("DUPLICATE_DISTANCE", "0", 0),
        ("DUPLICATE_DISTANCE", "7", 7),
        ("REUSE_RECOGNITION", "True", True),
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
        ("MAX_RECEIVE_COUNT", "0"),
        ("RETRY_DELAY_S", "-1"),
        ("RETRY_DELAY_S", "901"),
        ("RECOGNITION", "lables"),
        ("QUARANTINE", "Violence"),
        ("DUPLICATE_DISTANCE", "-1"),
        ("DUPLICATE_DISTANCE", "8"),
        ("REUSE_RECOGNITION", "1"),
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
        ("small 640x480 prefix=quarantine", "is the folder of what is withheld"),
    ],
)
def test_rendition_that_cannot_be_read_says_where(text: str, trouble: str) -> None:
    """The message shows the word, and what would be right."""
    with pytest.raises(ValueError, match=trouble):
        parse_renditions(text)


# ── recognition ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        *((name, FEATURES[name]) for name in Feature),
        ("labels 20 70%", FeatureSpec(Feature.LABELS, 20, 70)),
        ("Labels 5", FeatureSpec(Feature.LABELS, 5, 70)),
        ("labels 99.5%", FeatureSpec(Feature.LABELS, 20, 99.5)),
        ("labels 0% 1", FeatureSpec(Feature.LABELS, 1, 0)),
        ("moderation 100 100%", FeatureSpec(Feature.MODERATION, 100, 100)),
        ("text 7", FeatureSpec(Feature.TEXT, 7, 80)),
        ("celebrities 64", FeatureSpec(Feature.CELEBRITIES, 64, 80)),
        ("faces smile", FeatureSpec(Feature.FACES, 20, 80, ("SMILE",))),
        ("faces 90% Smile 5 BEARD", FeatureSpec(Feature.FACES, 5, 90, ("BEARD", "SMILE"))),
        ("faces beard smile beard", FeatureSpec(Feature.FACES, 20, 80, ("BEARD", "SMILE"))),
        ("faces all", FeatureSpec(Feature.FACES, 20, 80, ("ALL",))),
        ("faces age_range all", FeatureSpec(Feature.FACES, 20, 80, ("ALL",))),
    ],
)
def test_feature_is_a_name_and_how_much_of_it_in_any_order(text: str, spec: FeatureSpec) -> None:
    """In any case; what is left out is as documented, and what means the same is the same."""
    assert parse_recognition(text) == (spec,)


@pytest.mark.parametrize(("feature", "most"), MAX_COUNTS.items())
def test_feature_may_be_asked_for_up_to_its_limit(feature: Feature, most: int) -> None:
    """Its own, and no more."""
    assert parse_recognition(f"{feature} {most}")[0].max_count == most
    with pytest.raises(ValueError, match=f"'{most + 1}' is no number of {feature}"):
        parse_recognition(f"{feature} {most + 1}")


def test_features_are_separated_by_commas() -> None:
    """Line breaks, spaces and a comma at the end do not matter; nothing is no feature."""
    specs = parse_recognition("text,\n  faces 2 ,")

    assert specs == (FEATURES[Feature.TEXT], FeatureSpec(Feature.FACES, 2, 80))
    assert parse_recognition(" , ") == ()


def test_all_that_rekognition_knows_of_faces_can_be_asked_for() -> None:
    """Each attribute of DetectFaces but those that it always tells."""
    model = get_session().get_service_model("rekognition")
    known = model.shape_for("Attribute").enum

    assert {*FACE_ATTRIBUTES} == {*known} - {"DEFAULT"}
    for attribute in FACE_ATTRIBUTES:
        [spec] = parse_recognition(f"faces {attribute.lower()}")
        assert spec.attributes == (attribute,)


@pytest.mark.parametrize(
    ("text", "trouble"),
    [
        ("lables", "'lables' is none of labels, properties, moderation, faces"),
        ("20 labels", "'20' is none of labels"),
        ("labels; faces", "'labels;' is none of labels"),
        ("labels 0", "'0' is no number of labels from 1 to 90"),
        ("labels -1", "'-1' is no number"),
        ("labels 1.5", "'1.5' is no number"),
        ("labels 101%", "'101%' is no number .* no confidence from 0% to 100%"),
        ("labels -1%", "'-1%' is no number"),
        ("labels nan%", "'nan%' is no number"),
        ("labels many", "'many' is no number"),
        ("labels 5 6", "'labels' has two of max_count"),
        ("labels 5% 6%", "'labels' has two of min_confidence"),
        ("labels smile", "'smile' is no number"),
        ("faces grin", "'grin' is no number .* nor one of all, age_range"),
        ("faces default", "'default' is no number .* nor one of all"),
        ("properties 5", "'5' is behind properties, which take no words"),
        ("labels, faces, Labels 5", "has labels twice"),
    ],
)
def test_feature_that_cannot_be_read_says_where(text: str, trouble: str) -> None:
    """The message shows the word, and what would be right."""
    with pytest.raises(ValueError, match=trouble):
        parse_recognition(text)


@pytest.mark.parametrize(
    ("text", "rules"),
    [
        ("", []),
        ("Violence 80%", [QuarantineRule("Violence", 80)]),
        (
            "Drugs  & Tobacco 60.5%,\n Hate Symbols 0%,",
            [QuarantineRule("Drugs & Tobacco", 60.5), QuarantineRule("Hate Symbols", 0)],
        ),
        (
            "Any 100%, Alcohol Never",
            [QuarantineRule(ANY_LABEL, 100), QuarantineRule("Alcohol", None)],
        ),
    ],
)
def test_quarantine_is_moderation_labels_and_their_confidence(
    text: str, rules: list[QuarantineRule]
) -> None:
    """Labels of several words; the words that are none may be in any case."""
    assert parse_quarantine(text) == tuple(rules)


@pytest.mark.parametrize(
    ("text", "trouble"),
    [
        *(
            (rule, rf"has rules as 'Violence 80%' .* or 'Alcohol never', .* not '{rule}'")
            for rule in (
                *("Violence", "80%", "never", "Violence 80", "Violence -1%", "Violence 100.1%"),
                *("Violence always", "Violence 80% Alcohol 60%", "any never Alcohol 60%"),
            )
        ),
        ("Violence 80%, any 90%, violence never", "two rules for 'Violence'"),
        ("Alcohol never, any never", "withholds nothing, without a rule such as 'any 80%'"),
    ],
)
def test_rule_that_cannot_be_read_says_where(text: str, trouble: str) -> None:
    """A forgotten comma, too: it would withhold nothing, and nobody would know."""
    with pytest.raises(ValueError, match=trouble):
        parse_quarantine(text)


@pytest.mark.parametrize("write", [str, str.lower, str.upper, str.swapcase])
def test_rule_may_be_for_any_label_in_any_case(write: Callable[[str], str]) -> None:
    """Of every level; it is kept as Rekognition spells it."""
    rules = parse_quarantine(",".join(f"{write(label)} 80%" for label in TAXONOMY))

    assert [rule.label for rule in rules] == [*TAXONOMY]


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("Vilence", "Violence"),
        ("VILENCE", "Violence"),
        ("Weapon", "Weapons"),
        ("Weapons Violence", "Weapon Violence"),
        ("Graphic-Violence", "Graphic Violence"),
        ("Self Harm", "Self-Harm"),
        ("Blood and Gore", "Blood & Gore"),
        ("drugs and tobacco", "Drugs & Tobacco"),
        ("Alcohol Beverages", "Alcoholic Beverages"),
        ("Aany", "any"),
    ],
)
def test_rule_for_a_label_that_is_misspelt_is_refused(name: str, nearest: str) -> None:
    """It would withhold nothing, and nobody would know; the message has what was meant."""
    for text in (f"{name} 80%", f"any 90%, {name} never"):
        with pytest.raises(SettingsError) as raised:
            read(RECOGNITION="moderation", QUARANTINE=text)

        assert (
            f"QUARANTINE has a rule for {name!r}, which is no moderation label: the nearest is "
            f"{nearest!r}"
        ) in str(raised.value)


@pytest.mark.parametrize("name", ["Suggestive", "Drugs", "Cat", "🔫"])
def test_rule_for_a_label_that_there_is_not_is_refused(name: str) -> None:
    """Nor is any like it, such as for those of former versions: it is said where they stand."""
    with pytest.raises(
        ValueError,
        match=f"'{name}', which is no moderation label: all stand at https://docs.aws.amazon.com/",
    ):
        parse_quarantine(f"Violence 80%, {name} 80%")


def test_quarantine_needs_moderation() -> None:
    """Else nothing would ever be withheld: it is said what to do, beside all other problems."""
    with pytest.raises(SettingsError) as raised:
        read(RECOGNITION="labels, faces", QUARANTINE="any 80%", MAX_BYTES="many")

    assert "MAX_BYTES is a whole number" in str(raised.value)
    assert "QUARANTINE has rules, but RECOGNITION asks for no moderation" in str(raised.value)
    assert "add 'moderation' to it, or leave QUARANTINE empty" in str(raised.value)
    both = read(RECOGNITION="labels, moderation", QUARANTINE="any 80%")
    assert both.quarantine == (QuarantineRule(ANY_LABEL, 80),)


def test_quarantine_needs_labels_that_are_asked_for() -> None:
    """A rule below what Rekognition tells would not do what it says."""
    with pytest.raises(SettingsError) as raised:
        read(
            RECOGNITION="moderation 60%",
            QUARANTINE="Violence 59.5%, Explicit 60%, any 40%, Alcohol never",
        )

    message = str(raised.value)
    assert "QUARANTINE has 'Violence' from 59.5 % on, but RECOGNITION asks for" in message
    assert "moderation labels of 60 % at least" in message
    assert "lower the other ('moderation 59.5%')" in message
    assert "'any' from 40 % on" in message
    assert "Explicit" not in message
    assert read(RECOGNITION="moderation 40%", QUARANTINE="any 40%").quarantine


@pytest.mark.parametrize("most", [1, 20, 99])
def test_quarantine_needs_all_labels(most: int) -> None:
    """What is not kept would withhold nothing; without rules, anybody may keep fewer."""
    few = f"labels 20, moderation {most} 50%"
    with pytest.raises(SettingsError) as raised:
        read(RECOGNITION=few, QUARANTINE="any 40%")

    message = str(raised.value)
    assert f"RECOGNITION keeps {most} moderation labels at most" in message
    assert f"leave the {most} behind 'moderation' out" in message
    assert "'any' from 40 % on" in message
    assert read(RECOGNITION=few).recognition[1].max_count == most
    for all_of_them in ("moderation", "moderation 100"):
        assert read(RECOGNITION=all_of_them, QUARANTINE="any 80%").quarantine


def test_all_moderation_labels_are_kept_unless_said_otherwise() -> None:
    """Rekognition cannot name more, also where it has learned some."""
    assert FEATURES[Feature.MODERATION].max_count == MAX_COUNTS[Feature.MODERATION]
    assert MAX_COUNTS[Feature.MODERATION] > len(TAXONOMY)


def test_unreadable_recognition_is_the_only_complaint_about_it() -> None:
    """What a quarantine needs of it cannot be told."""
    with pytest.raises(SettingsError) as raised:
        read(RECOGNITION="moderatoin", QUARANTINE="any 80%")

    assert "'moderatoin' is none of" in str(raised.value)
    assert "QUARANTINE" not in str(raised.value)


@pytest.mark.parametrize(
    ("variables", "names", "instead"),
    [
        ({"MAX_LABELS": "30"}, "MAX_LABELS is", "labels 30 70%"),
        ({"MIN_CONFIDENCE": "80"}, "MIN_CONFIDENCE is", "labels 20 80%"),
        ({"IMAGE_PROPERTIES": "True"}, "IMAGE_PROPERTIES is", "labels 20 70%, properties"),
        ({"IMAGE_PROPERTIES": "false"}, "IMAGE_PROPERTIES is", "labels 20 70%"),
        (
            {"MAX_LABELS": "5", "MIN_CONFIDENCE": "60.5", "IMAGE_PROPERTIES": "true"},
            "MAX_LABELS, MIN_CONFIDENCE, IMAGE_PROPERTIES are",
            "labels 5 60.5%, properties",
        ),
    ],
)
def test_variable_of_former_versions_is_not_ignored(
    variables: dict[str, str], names: str, instead: str
) -> None:
    """Whoever sets one relies on it; the message has what does the same, ready to be copied."""
    with pytest.raises(SettingsError) as raised:
        read(**variables)

    assert f"{names} no more: set RECOGNITION instead, to '{instead}'" in str(raised.value)
    assert read(RECOGNITION=instead).recognition


# ── the version of a recipe ──────────────────────────────────────────────────────────────────────

MODERATED = {"RECOGNITION": "moderation"}


def test_version_of_the_recipe_is_of_what_is_meant() -> None:
    """However it is written: processing all anew costs money."""
    version = read(
        RECOGNITION="faces smile beard, moderation, labels",
        QUARANTINE="any 90%, Violence 80%",
    ).recipe_version

    same = read(
        RECOGNITION="Labels 70% 20, moderation 50% 100, faces 20 beard SMILE 80.0%",
        QUARANTINE="VIOLENCE 80.0%, ANY 90%",
    )
    assert same.recipe_version == version


def test_version_of_the_recipe_changes_with_what_withholds() -> None:
    """Another threshold is another result."""
    none = read(**MODERATED)
    some = read(**MODERATED, QUARANTINE="any 90%")
    more = read(**MODERATED, QUARANTINE="any 80%")

    assert len({settings.recipe_version for settings in (none, some, more)}) == 3


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("RENDITIONS", "small 64x64"),
        ("RENDITIONS", DEFAULT_RENDITIONS + " q79"),
        ("BACKGROUND", "#000000"),
        ("KEEP_GPS", "true"),
        ("RECOGNITION", ""),
        ("RECOGNITION", "labels 21"),
        ("RECOGNITION", "labels 71%"),
        ("RECOGNITION", "labels, properties"),
        ("RECOGNITION", "labels, faces smile"),
        ("DUPLICATE_DISTANCE", "4"),
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
        "EVENT_BUS_NAME": "other",
        "MAX_BYTES": "1000",
        "MAX_PIXELS": "1000",
        "MAX_SIDE": "1000",
        "BATCH_SIZE": "1",
        "MAXIMUM_CONCURRENCY": "2",
        "IMAGES_IN_FLIGHT": "1",
        "RETRY_DELAY_S": "1",
        "REUSE_RECOGNITION": "true",
        "API_AUTH": "cognito",
        "API_ALLOWED_ORIGINS": "*",
        **POOL,
        "FETCH_ALLOWED_HOSTS": "a.example",
        "FETCH_ALLOWED_NETWORKS": "10.0.0.0/8",
        "WEBHOOKS": "https://a.example/",
        "WEBHOOK_SECRET": SECRET,
        "WEBHOOK_ALLOWED_NETWORKS": "10.0.0.0/8",
        "WEBHOOK_CONCURRENCY": "2",
        "MAIL_FROM": "a@a.example",
        "ORCHESTRATION": "stepfunctions",
        "STATE_MACHINE_ARN": "arn:aws:states:us-east-1:000000000000:stateMachine:image-pipeline",
    }
    shaping = {
        *("RENDITIONS", "BACKGROUND", "KEEP_GPS"),
        *("RECOGNITION", "QUARANTINE", "DUPLICATE_DISTANCE"),
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


# ── webhooks ─────────────────────────────────────────────────────────────────────────────────────


def test_webhooks_are_read_as_they_are_documented() -> None:
    """URLs, each with statuses and labels, in whatever case; a label may have several words."""
    settings = read(
        WEBHOOKS="https://a.example/hook completed+FAILED label=Cat label=Polar  Bear,\n"
        "http://b.example/, https://c.example label=Dog,",
        WEBHOOK_SECRET=f"{SECRET} {SECRET}",
    )

    assert settings.webhooks == (
        Destination(
            digest("https://a.example/hook"),
            "https://a.example/hook",
            statuses=("COMPLETED", "FAILED"),
            labels=("Cat", "Polar  Bear"),
            is_configured=True,
        ),
        Destination(digest("http://b.example/"), "http://b.example/", is_configured=True),
        Destination(
            digest("https://c.example"), "https://c.example", labels=("Dog",), is_configured=True
        ),
    )
    assert settings.webhook_secret == (Secret(SECRET), Secret(SECRET))
    assert settings.webhook_queue_name == "image-webhooks"
    assert read().webhooks == read(WEBHOOKS=" , ").webhooks == ()


@pytest.mark.parametrize(
    "text",
    [
        "a.example",
        "ftp://a.example",
        "COMPLETED",
        "https://a.example SEEN",
        "https://a.example COMPLETED+",
        "https://a.example COMPLETED FAILED",
        "https://a.example label=",
        "label=Cat",
        "mailto:",
        "mailto:ada",
        "mailto:ada@a.example?bcc=b@a.example",
        "mailto:Ada <ada@a.example>",
    ],
)
def test_webhook_that_cannot_be_read_is_named(text: str) -> None:
    """With an example of one that can."""
    with pytest.raises(
        SettingsError, match=r"WEBHOOKS has .*'https://example\.com/hook COMPL"
    ) as no:
        read(WEBHOOKS=f"https://ok.example, {text}", WEBHOOK_SECRET=SECRET)
    assert repr(text) in str(no.value)


def test_url_that_is_configured_twice_is_refused() -> None:
    """Its two would share an id."""
    with pytest.raises(SettingsError, match="WEBHOOKS has a URL twice"):
        read(WEBHOOKS="https://a.example, https://a.example FAILED", WEBHOOK_SECRET=SECRET)


def test_webhooks_need_a_secret() -> None:
    """Nobody could tell the pipeline from others."""
    with pytest.raises(SettingsError, match="WEBHOOK_SECRET is not set"):
        read(WEBHOOKS="https://a.example")


def test_addresses_need_a_sender_and_no_secret() -> None:
    """Mails are not signed."""
    [destination] = read(WEBHOOKS="mailto:ada@a.example", MAIL_FROM="a@a.example").webhooks
    assert (destination.url, destination.is_mailed) == ("mailto:ada@a.example", True)

    with pytest.raises(SettingsError, match="MAIL_FROM is not set") as refusal:
        read(WEBHOOKS="mailto:ada@a.example, https://a.example")
    assert "WEBHOOK_SECRET is not set" in str(refusal.value)


@pytest.mark.parametrize(
    "text", ["", "a+b@a.example", "Images <a@a-b.example>", "Bilder ä: <a@b.example>"]
)
def test_sender_is_an_address_that_may_have_a_name(text: str) -> None:
    """One that SES has verified; without any, nobody is mailed."""
    assert read(MAIL_FROM=text).mail_from == text


@pytest.mark.parametrize(
    "text",
    [
        *("a", "a@", "@b.example", "a@b", "a@ä.example", "a b@c.example", "a@b..example"),
        *("a@b.example,c@d.example", "a@b.example\r\nBcc: c@d.example", "a@b.example\n"),
        *(
            "A\r\nBcc: c@d.example <a@b.example>",
            "<a@b.example>",
            "A <a@b.example> b",
            "A <B <a@b.c>>",
        ),
    ],
)
def test_sender_that_cannot_be_one_is_refused(text: str) -> None:
    """Nothing in it can become another header, or another address."""
    with pytest.raises(SettingsError, match="MAIL_FROM is as 'Images <images@example"):
        read(MAIL_FROM=text)


@pytest.mark.parametrize(
    "text", ["hunter2", "whsec_a", "whsec_aHVudGVyMg==", SECRET[6:], "whsec_ä"]
)
def test_secret_is_in_no_message(text: str) -> None:
    """Neither in that of its error nor where settings are printed."""
    with pytest.raises(SettingsError, match="WEBHOOK_SECRET is whsec_") as refusal:
        read(WEBHOOK_SECRET=text)

    assert f" {text}" not in str(refusal.value)
    assert SECRET[6:] not in repr(read(WEBHOOK_SECRET=SECRET))
