"""The properties of the product."""
