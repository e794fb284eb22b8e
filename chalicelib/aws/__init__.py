"""One module a service of AWS; each is handed its client and knows nothing of the others."""
