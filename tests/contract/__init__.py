"""The contract with other systems: its schemas, the messages and events it promises, and programs that keep to it."""
