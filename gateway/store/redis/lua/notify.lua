-- Tells a name to all who listen, whether or not there is such a run.
changed(ARGV[1])
return nil
