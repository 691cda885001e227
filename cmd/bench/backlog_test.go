package main

import (
	"encoding/json"
	"testing"
)

// The figure of the disk after the drain is read when the store has given it back, however
// short a measurement is.
func TestRun_BacklogWaitsForTheDisk(t *testing.T) {
	status, stdout, stderr := bench(t, t.Context(), "-workloads", "backlog", "-duration", "20ms", "-rounds", "1", "-n", "80000", "-o", "json")
	if status != 0 {
		t.Fatalf("exit status %d\n%s", status, stderr)
	}
	var doc struct {
		Results []struct {
			Figures map[string]struct{ Median float64 }
		}
	}
	if err := json.Unmarshal([]byte(stdout), &doc); err != nil {
		t.Fatal(err)
	}
	f := doc.Results[0].Figures
	drained, later, after := f["folder_bytes_drained"].Median, f["folder_bytes_rested"].Median, f["rested_after"].Median
	if later <= 0 || later > drained/2 {
		t.Errorf("%.0f bytes were there after the drain, %.0f later: want half of it at most", drained, later)
	}
	if after <= 0 || after > 10 {
		t.Errorf("the size changed last after %v s", after)
	}
}
