"""``python -m localcloud.ministack``: MiniStack, with SQS's permissions as IAM has them.

IAM knows no action for a batch: ``sqs:SendMessage`` allows SendMessageBatch too, and likewise for
the others (Amazon SQS developer guide, "API permissions"). MiniStack asks for ``…Batch``.
"""

from typing import Any

from ministack.app import main
from ministack.core import iam_actions

operation_action = iam_actions.extract_iam_action


def iam_action(service: str, *request: Any) -> str | None:
    """The action that a role must allow for a request."""
    action: str | None = operation_action(service, *request)
    return action.removesuffix("Batch") if action and service == "sqs" else action


if __name__ == "__main__":
    iam_actions.extract_iam_action = iam_action
    main()
