"""Speed and error, measured where they are asked for: the command `dhs bench`."""
