-- Returns the fields of a run without its order and document.
return overview(ARGV[1])
