"""Tables, folders and pixels as they are kept on disk or in an object store. No torch."""
