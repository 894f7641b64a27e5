"""The tool verbs of the command line, one a file."""
