"""The editor's report: facts from the others' results, pictures, one page for people and one for tools."""
