-- The row of a run.
return row(ARGV[1])
