"""What is said in a terminal: the standalone service's commands, and those of an application that exists already."""
