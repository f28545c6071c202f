"""One module a family of operators; importing a module registers its cases."""
