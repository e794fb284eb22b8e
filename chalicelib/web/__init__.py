"""HTTP in and out: requests parsed, images shown, errors said. No rule of the pipeline is here."""
