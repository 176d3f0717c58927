"""The command line: one file a subcommand, each parse, call, render; nothing heavy is imported at module level."""
