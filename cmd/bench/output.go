package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/goutbox/goutbox/cmd/bench/internal/machine"
	"github.com/goutbox/goutbox/cmd/bench/internal/report"
	"github.com/goutbox/goutbox/cmd/bench/internal/workload"
)

// output prints a run as it goes.
type output interface {
	begin(r *runner, m machine.Machine)
	workload(r *runner, w workload.Workload)
	rows(r *runner, w workload.Workload, rows []*report.Row)
	end(company string) error // with a word on other programs, or ""
}

func newOutput(c *config, w io.Writer) output {
	switch c.output {
	case "json":
		return &jsonOutput{w: w}
	case "bench":
		return &benchOutput{textOutput{w: w}}
	}
	return &textOutput{w: w}
}

// notes say how to read the figures.
func (r *runner) notes(m machine.Machine) (notes []string) {
	notes = append(notes, fmt.Sprintf("medians of interleaved rounds (%d); compare within a run only, the speed of a disk drifts", r.rounds))
	if r.rounds < 3 {
		notes = append(notes, "FEWER THAN 3 ROUNDS: these figures are no basis for anything")
	}
	if m.InMemory {
		notes = append(notes, "THE FOLDER IS IN MEMORY: nothing here is durable, and no figure says anything about a disk")
	}
	notes = append(notes, r.serverNotes()...)
	notes = append(notes, "ceiling: one goroutine that does pwrite and "+m.SyncCall+" into blocks written before, and nothing else; "+
		"each write has the payloads of all producers, or of the batch. It is measured before and after each measurement")
	source := r.meter.DiskSource()
	if source == "" {
		source = "what the store says that it writes (Stats)"
	}
	notes = append(notes, "disk B/ev: bytes per event from "+source+". With close: and what Close wrote to bring the backlog to rest")
	return append(notes, "call p50, p99: of a call, in a closed loop: each producer calls again when its call has returned")
}

// serverNotes say what is different on a server.
func (r *runner) serverNotes() []string {
	if r.server == nil {
		return nil
	}
	var names []string
	for _, s := range r.subjects {
		if s.Elsewhere {
			names = append(names, s.Name)
		}
	}
	notes := []string{strings.Join(names, ", ") + ": on a server, so there is no ceiling, which is the disk of this folder; disk B/ev is what the server's log has got, " +
		"from all its clients; CPU and memory are those of this program alone, not the server's"}
	if r.server.Unsafe != "" {
		notes = append(notes, "THE SERVER DOES NOT WAIT FOR ITS DISK: "+r.server.Unsafe+", so nothing there is durable")
	}
	return notes
}

// settings are what was chosen, for JSON.
func (r *runner) settings() map[string]any {
	all := map[string]any{
		"workloads": strings.Split(list(r.workloads, workloadName), ","), "stores": strings.Split(list(r.subjects, subjectName), ","),
		"producers": r.Producers, "size": r.Size, "duration": r.Duration.String(), "rounds": r.rounds, "n": r.Events, "rate": r.Rate, "cold": r.Cold, "seed": r.seed,
	}
	if r.server != nil {
		all["server"] = r.server.About
	}
	return all
}

// textOutput is for people.
type textOutput struct{ w io.Writer }

func (o *textOutput) begin(r *runner, m machine.Machine) {
	line := func(name, format string, args ...any) {
		fmt.Fprintln(o.w, report.Wrap(name+": "+fmt.Sprintf(format, args...), "  "))
	}
	line("machine", "%s, %s, %d CPUs, GOMAXPROCS %d%s", m.System, m.Arch, m.CPUs, m.GoMaxProcs, after(", ", m.CPU))
	line("go", "%s", m.Go)
	line("disk", "%s%s%s", m.FileSystem, after(", ", m.Device), after(", write cache: ", m.WriteCache))
	line("folder", "%s", m.Dir)
	line("settings", "payloads of %d bytes, %s a measurement, rounds: %d, backlog of %d, open loop at %g/s, seed %d", r.Size, r.Duration, r.rounds, r.Events, r.Rate, r.seed)
	if r.server != nil {
		line("server", "%s", r.server.About)
	}
	for _, s := range r.subjects {
		line("store "+s.Name, "%s", s.About)
	}
	for _, n := range r.notes(m) {
		line("note", "%s", n)
	}
}

func after(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
}

func (o *textOutput) workload(_ *runner, w workload.Workload) {
	fmt.Fprintf(o.w, "\n%s\n", report.Wrap(w.Name+": "+w.About, "  "))
}

func (o *textOutput) rows(r *runner, w workload.Workload, rows []*report.Row) {
	report.Table(o.w, w.Columns, rows)
	fmt.Fprintln(o.w, "  checked: all that was acknowledged is there")
}

func (o *textOutput) end(company string) error {
	if company != "" {
		fmt.Fprintf(o.w, "\nnote: %s\n", company)
	}
	return nil
}

// benchOutput is for benchstat.
type benchOutput struct{ textOutput }

// workload is a comment: what looks like "key: value" would divide the results.
func (o *benchOutput) workload(_ *runner, w workload.Workload) {
	fmt.Fprintf(o.w, "\n%s\n", report.Wrap("# "+w.Name+": "+w.About, "# "))
}

func (o *benchOutput) rows(_ *runner, _ workload.Workload, rows []*report.Row) {
	report.Bench(o.w, rows)
}

// jsonOutput prints one document at the end.
type jsonOutput struct {
	w   io.Writer
	doc report.Document
}

func (o *jsonOutput) begin(r *runner, m machine.Machine) {
	o.doc.Machine, o.doc.Settings, o.doc.Notes = m, r.settings(), r.notes(m)
}

func (o *jsonOutput) workload(*runner, workload.Workload) {}

func (o *jsonOutput) rows(r *runner, w workload.Workload, rows []*report.Row) {
	if text := r.leftOut(w); text != "" {
		o.doc.Notes = append(o.doc.Notes, text)
	}
	for _, row := range rows {
		o.doc.Results = append(o.doc.Results, row.Entry())
	}
}

func (o *jsonOutput) end(company string) error {
	if company != "" {
		o.doc.Notes = append(o.doc.Notes, company)
	}
	return report.JSON(o.w, o.doc)
}
