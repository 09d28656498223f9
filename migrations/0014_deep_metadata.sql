-- migrate:up transaction:false
-- Metadata that no reader bore, from before its depth was bounded. It commits row by row, under
-- traffic. An ingress of the release before still takes such metadata: once they are all replaced, the
-- same call does it again (docs/operations.md).
CALL replace_all_deep_metadata();
