//go:build peers

package main

import (
	"encoding/json"
	"testing"
)

// Every peer goes through every workload that it can do; what it has acknowledged is
// checked as that of our own stores.
func TestRun_EveryWorkloadOnEveryPeer(t *testing.T) {
	for _, p := range peers {
		if p.On != nil {
			continue // see TestRun_EveryWorkloadOnAServer
		}
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel() // they wait for the disk
			status, stdout, stderr := bench(t, t.Context(), "-stores", "mem", "-peers", p.Name,
				"-duration", "20ms", "-rounds", "1", "-n", "100", "-producers", "1,4", "-rate", "200", "-o", "json")
			if status != 0 {
				t.Fatalf("exit status %d\n%s", status, stderr)
			}
			var doc struct {
				Results []struct{ Workload, Store string }
			}
			if err := json.Unmarshal([]byte(stdout), &doc); err != nil {
				t.Fatal(err)
			}
			measured := map[string]bool{}
			for _, r := range doc.Results {
				if r.Store == p.Name {
					measured[r.Workload] = true
				}
			}
			for _, w := range workloads {
				if measured[w.Name] != p.Has(w.Needs) {
					t.Errorf("%s: measured is %v", w.Name, measured[w.Name])
				}
			}
		})
	}
}
