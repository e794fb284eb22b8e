"""Putting the pipeline on AWS. Never in the Lambda package."""
