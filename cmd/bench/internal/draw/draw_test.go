package draw_test

import (
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goutbox/goutbox/cmd/bench/internal/draw"
	"github.com/goutbox/goutbox/cmd/bench/internal/report"
)

func row(workload, subject string, producers int, s report.Sample) *report.Row {
	return &report.Row{Workload: workload, Subject: subject, Producers: producers, Samples: []report.Sample{s}}
}

func TestAll_DrawsWhatThereIs(t *testing.T) {
	rows := []*report.Row{
		row("enqueue", "ours", 1, report.Sample{report.Events: 5000, report.Ceiling: 6000, report.RestBytes: 4000}),
		row("enqueue", "ours", 64, report.Sample{report.Events: 150_000, report.Ceiling: 300_000, report.RestBytes: 700}),
		row("enqueue", "theirs", 1, report.Sample{report.Events: 3000}), // with no bytes, and no other case
	}
	dir := t.TempDir()
	files, err := draw.All(dir, "a machine", 256, rows)
	if err != nil || len(files) != 4 {
		t.Fatalf("%v %v", files, err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Ext(f) == ".png" {
			if _, err := png.Decode(strings.NewReader(string(b))); err != nil {
				t.Errorf("%s: %v", f, err)
			}
			continue
		}
		want := []string{"a machine", "producers", ">64<", ">ours<", ">payload<"}
		if strings.Contains(f, "throughput") {
			want = []string{"a machine", "producers", ">64<", ">ours<", ">theirs<", ">ceiling", ">100 k<"}
		}
		for _, s := range want {
			if !strings.Contains(string(b), s) {
				t.Errorf("%s has no %q", f, s)
			}
		}
	}
	if files, err := draw.All(dir, "", 256, []*report.Row{row("drain", "ours", 1, report.Sample{report.Events: 1})}); err != nil || len(files) > 0 {
		t.Errorf("of a drain there is no plot, but %v %v", files, err)
	}
	if _, err := draw.All(filepath.Join(dir, "nowhere"), "", 256, rows); err == nil {
		t.Error("a folder that does not exist is no error")
	}
}
