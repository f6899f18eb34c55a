"""The Helm chart, rendered by Helm's own library. No cluster is needed."""
