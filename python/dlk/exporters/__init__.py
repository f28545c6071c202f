"""Writers of other frameworks' files, one module a format."""
