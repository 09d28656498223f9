"""The reconciler: finishes what got stuck between acceptance and posting."""
