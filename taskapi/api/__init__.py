"""The blueprints: parse, ask the store, answer."""
