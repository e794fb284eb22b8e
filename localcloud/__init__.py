"""The whole cloud on a laptop: the same template, the same functions, no account.

Never in the Lambda package; the app does not know of it.
"""
