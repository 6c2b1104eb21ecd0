"""A shipped config on tiny stand-ins, end to end: what `disback run CONFIG --smoke` does."""
