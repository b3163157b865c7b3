"""The connectors that ship with the product, one module a kind of source, found by entry point like everybody's."""
