"""The tool: command line, workflows and reports over the other rooms."""
