"""Events for those who follow them over HTTP."""
