package report

import (
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Bench prints each round of the rows as one line of the format of Go benchmarks,
// so that benchstat can tell whether two runs on one machine differ.
func Bench(w io.Writer, rows []*Row) {
	fmt.Fprintln(w)
	for _, f := range [...]Figure{Events, Ceiling, RawSyncs, OfCeiling, Syncs, PerSync} {
		fmt.Fprintf(w, "Unit %s better=higher\n", f.Name)
	}
	for _, r := range rows {
		name := "Benchmark" + strings.ToUpper(r.Workload[:1]) + r.Workload[1:]
		for _, s := range r.Samples {
			fmt.Fprintf(w, "%s/store=%s/producers=%d %.0f", name, r.Subject, r.Producers, max(s[Total], 1))
			for _, f := range r.figures() {
				if v, ok := s[f]; ok && f != Total && !f.Curve {
					fmt.Fprintf(w, " %s %s", strconv.FormatFloat(v, 'g', 6, 64), f.Name)
				}
			}
			fmt.Fprintln(w)
		}
	}
}
