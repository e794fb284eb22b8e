"""Tables of tests' own, made like the one that the template makes."""

from typing import Any


def create_table_like(dynamodb: Any, model: str, name: str) -> None:
    """An empty table with the keys and indexes of another one."""
    made = dynamodb.describe_table(TableName=model)["Table"]
    dynamodb.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=made["AttributeDefinitions"],
        KeySchema=made["KeySchema"],
        GlobalSecondaryIndexes=[
            {part: index[part] for part in ("IndexName", "KeySchema", "Projection")}
            for index in made["GlobalSecondaryIndexes"]
        ],
    )
