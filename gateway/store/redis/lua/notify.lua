-- Publishes a name, which need not be the id of a run.
changed(ARGV[1])
return nil
