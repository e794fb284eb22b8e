"""Step Functions: the state machine that takes an image through its stages."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from chalicelib.errors import Throttled
from chalicelib.messages import encode_work
from chalicelib.model import Original

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient

BUSY = ("ThrottlingException", "ExecutionLimitExceeded")


@dataclass(frozen=True, slots=True)
class Workflow:
    client: "SFNClient"
    arn: str

    def start(self, name: str, original: Original) -> bool:
        """Have this version processed; False where the name is used up.

        A name stands for one execution, for 90 days: while that runs, another start changes
        nothing. Raises Throttled.
        """
        try:
            self.client.start_execution(
                stateMachineArn=self.arn, name=name, input=encode_work(original)
            )
        except self.client.exceptions.ExecutionAlreadyExists:
            arn = f"{self.arn.replace(':stateMachine:', ':execution:')}:{name}"
            return self.client.describe_execution(executionArn=arn)["status"] == "RUNNING"
        except ClientError as error:
            if error.response["Error"]["Code"] in BUSY:
                raise Throttled("Step Functions starts no more executions for now.") from error
            raise
        return True
