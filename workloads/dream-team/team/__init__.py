"""The Dream Team: a virtual engineering organisation of 31 agents that reviews a source tree."""
