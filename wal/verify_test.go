package wal_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/goutbox/goutbox/wal"
	"github.com/goutbox/goutbox/wal/waltest"
	"github.com/stretchr/testify/require"
)

// survey verifies a log and returns what is intact.
func survey(disk *waltest.FS) (wal.Report, map[wal.Position]string, error) {
	records, last := map[wal.Position]string{}, wal.Position(0)
	report, err := wal.Verify("wal", options(disk), func(r wal.Record) error {
		if r.Position <= last {
			return fmt.Errorf("record %d comes after %d", r.Position, last)
		}
		last = r.Position
		records[r.Position] = string(r.Data)
		return nil
	})
	if err == nil && int(report.Records) != len(records) {
		err = fmt.Errorf("report says %d records, there were %d", report.Records, len(records))
	}
	return report, records, err
}

// files returns all files of the log.
func files(disk *waltest.FS) map[string]string {
	all := map[string]string{}
	for _, n := range disk.Names("wal") {
		all[n] = string(disk.Bytes("wal/" + n))
	}
	return all
}

// lostBy returns the positions that the findings name, and from where on all may be gone, 0 if it does not say so.
func lostBy(report wal.Report) (lost map[wal.Position]bool, rest wal.Position) {
	lost = map[wal.Position]bool{}
	for _, f := range report.Findings {
		if f.From > 0 && f.To == 0 {
			rest = f.From
		}
		for p := f.From; p > 0 && p <= f.To; p++ {
			lost[p] = true
		}
	}
	return lost, rest
}

func TestVerify_Sound(t *testing.T) {
	disk, records := smallLog(t)
	before, ops := files(disk), disk.Ops()
	report, got, err := survey(disk)
	require.NoError(t, err)
	require.Equal(t, wal.Report{Segments: 3, Records: 36, First: 1, Next: 37}, report)
	for i, r := range records {
		require.Equal(t, string(r), got[wal.Position(i+1)])
	}
	report, err = wal.Salvage("wal", options(disk), ".bad")
	require.NoError(t, err)
	require.False(t, report.Damaged())
	require.Equal(t, before, files(disk))
	require.Equal(t, ops, disk.Ops(), "nothing was written, renamed or synced")

	empty := waltest.New()
	_, err = wal.Verify("wal", options(empty), nil)
	require.Error(t, err, "there is no folder")
	require.NoError(t, open(t, empty).Close())
	report, err = wal.Verify("wal", options(empty), nil)
	require.NoError(t, err)
	require.Equal(t, wal.Report{First: 1, Next: 1}, report)
}

func TestVerify_EachEndsIt(t *testing.T) {
	disk, _ := smallLog(t)
	enough, n := errors.New("enough"), 0
	_, err := wal.Verify("wal", options(disk), func(wal.Record) error {
		if n++; n == 5 {
			return enough
		}
		return nil
	})
	require.ErrorIs(t, err, enough)
	require.Equal(t, 5, n)
}

// TestVerify_Findings is the table of damages and what is found. The log has the records 1 to 36 in three segments; the
// first two end with whole is what the next one says.
func TestVerify_Findings(t *testing.T) {
	disk, records := smallLog(t)
	base := map[int]wal.Position{1: 1, 4: 37}
	for n := 2; n <= 3; n++ {
		base[n] = wal.Position(binary.LittleEndian.Uint64(disk.Bytes(path(n))[baseAt:]))
	}
	group := func(disk *waltest.FS, segment, n int) int { return groupOffsets(disk.Bytes(path(segment)))[n] }
	change := func(segment int, f func(data []byte) []byte) func(*waltest.FS) {
		return func(disk *waltest.FS) { disk.SetBytes(path(segment), f(disk.Bytes(path(segment)))) }
	}
	spoil := func(segment int, groups ...int) func(*waltest.FS) {
		return change(segment, func(data []byte) []byte {
			offsets := groupOffsets(data)
			for _, n := range groups {
				data[offsets[n]+groupHeader]++
			}
			return data
		})
	}
	noHeader := func(segment int) func(*waltest.FS) {
		return change(segment, func(data []byte) []byte { clear(data[:512]); return data })
	}
	blank := func(segment int) func(*waltest.FS) {
		return change(segment, func(data []byte) []byte { clear(data); return data })
	}
	gone := func(segment int) func(*waltest.FS) {
		return func(disk *waltest.FS) { require.NoError(t, disk.Remove(path(segment))) }
	}
	type loss struct {
		segment  int
		group    int // where it begins; -1 is offset 0, -2 is anywhere
		from, to wal.Position
	}
	for _, c := range []struct {
		name   string
		damage []func(*waltest.FS)
		want   []loss
		torn   bool
	}{
		{"a group in a sealed segment", []func(*waltest.FS){spoil(1, 2)}, []loss{{1, 2, 3, 3}}, false},
		{"two groups beside each other", []func(*waltest.FS){spoil(1, 2, 3)}, []loss{{1, 2, 3, 4}}, false},
		{"two groups apart", []func(*waltest.FS){spoil(1, 2, 5)}, []loss{{1, 2, 3, 3}, {1, 5, 6, 6}}, false},
		{"the first group of all", []func(*waltest.FS){spoil(1, 0)}, []loss{{1, 0, 1, 1}}, false},
		{"the last group of a sealed segment", []func(*waltest.FS){spoil(1, int(base[2])-2)}, []loss{{1, int(base[2]) - 2, base[2] - 1, base[2] - 1}}, false},
		{"a group in the newest segment", []func(*waltest.FS){spoil(3, 1)}, []loss{{3, 1, base[3] + 1, base[3] + 1}}, false},
		{"the last group of all", []func(*waltest.FS){spoil(3, int(36-base[3]))}, []loss{{3, int(36 - base[3]), 0, 0}}, true},
		{"a header", []func(*waltest.FS){noHeader(2)}, []loss{{2, -1, 0, 0}}, false},
		{"the first header", []func(*waltest.FS){noHeader(1)}, []loss{{1, -1, 0, 0}}, false},
		{"the newest header", []func(*waltest.FS){noHeader(3)}, []loss{{3, -1, 0, 0}}, false},
		{"a header and the group behind it", []func(*waltest.FS){spoil(2, 0), noHeader(2)}, []loss{{2, -1, base[2], base[2]}}, false},
		{"the first header and the group behind it", []func(*waltest.FS){spoil(1, 0), noHeader(1)}, []loss{{1, -1, 1, 1}}, false},
		{"a whole segment", []func(*waltest.FS){blank(2)}, []loss{{2, -1, base[2], base[3] - 1}}, false},
		{"the whole first segment", []func(*waltest.FS){blank(1)}, []loss{{1, -1, 1, base[2] - 1}}, false},
		{"the whole newest segment", []func(*waltest.FS){blank(3)}, []loss{{3, -1, base[3], 0}}, false},
		{"a missing segment", []func(*waltest.FS){gone(2)}, []loss{{2, -1, base[2], base[3] - 1}}, false},
		{"swapped segments", []func(*waltest.FS){func(disk *waltest.FS) {
			one, two := disk.Bytes(path(1)), disk.Bytes(path(2))
			disk.SetBytes(path(1), two)
			disk.SetBytes(path(2), one)
		}}, []loss{{2, -1, 0, 0}, {1, -1, 0, 0}}, false},
		{"a sealed segment cut short", []func(*waltest.FS){change(1, func(data []byte) []byte { return data[:groupOffsets(data)[6]+60] })},
			[]loss{{1, -2, 0, 0}, {1, 6, 7, base[2] - 1}}, false},
		{"the newest segment cut short", []func(*waltest.FS){change(3, func(data []byte) []byte { return data[:groupOffsets(data)[2]+60] })},
			[]loss{{3, -2, 0, 0}, {3, 2, base[3] + 2, 0}}, false},
		{"the newest segment cut behind its end", []func(*waltest.FS){change(3, func(data []byte) []byte { return data[:len(data)-512] })},
			[]loss{{3, -2, 0, 0}}, false},
		{"all of it", []func(*waltest.FS){blank(1), blank(2), blank(3)}, []loss{{1, -1, 1, 0}, {2, -1, 0, 0}, {3, -1, 0, 0}}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			damaged := disk.Crash(disk.Ops(), 0)
			for _, damage := range c.damage {
				damage(damaged)
			}
			before := files(damaged)
			report, got, err := survey(damaged)
			require.NoError(t, err)
			require.Equal(t, before, files(damaged), "Verify changes nothing")
			require.Len(t, report.Findings, len(c.want), "%+v", report.Findings)
			for i, want := range c.want {
				f := report.Findings[i]
				require.Equal(t, name(want.segment), f.File)
				require.Equal(t, [2]wal.Position{want.from, want.to}, [2]wal.Position{f.From, f.To}, "%v", f.Err)
				require.Equal(t, f.Torn, !errors.Is(f.Err, wal.ErrCorrupt))
				require.ErrorContains(t, f.Err, f.File)
				switch {
				case want.group >= 0:
					require.EqualValues(t, group(disk, want.segment, want.group), f.Offset)
				case want.group == -1:
					require.Zero(t, f.Offset)
				}
			}
			require.Equal(t, !c.torn, report.Damaged())
			require.NoError(t, kept(damaged, report, got, records, 35))
		})
	}
}

// kept salvages a damaged log and checks that what was lost and what is there make up what was written, as far as sure: no
// watermark bears witness to what comes after it.
func kept(disk *waltest.FS, report wal.Report, intact map[wal.Position]string, records [][]byte, sure wal.Position) error {
	before := files(disk)
	lost, rest := lostBy(report)
	if rest == 0 {
		rest = sure + 1
	}
	for i := range records {
		p := wal.Position(i + 1)
		data, there := intact[p]
		switch {
		case there && data != string(records[i]):
			return fmt.Errorf("record %d is wrong", p)
		case there && lost[p]:
			return fmt.Errorf("record %d is there, and is said to be lost", p)
		case !there && !lost[p] && p < rest:
			return fmt.Errorf("record %d is not there, and not said to be lost: %+v", p, report.Findings)
		}
	}
	salvaged, err := wal.Salvage("wal", options(disk), ".bad")
	if err != nil {
		return err
	}
	if fmt.Sprint(salvaged) != fmt.Sprint(report) {
		return fmt.Errorf("salvage found %+v, verify %+v", salvaged, report)
	}
	if !report.Damaged() {
		if !maps.Equal(before, files(disk)) {
			return errors.New("salvage has changed a log without damage")
		}
	} else if err := setAside(disk, report, before); err != nil {
		return err
	}
	return opensWith(disk, report, intact)
}

// setAside checks that each damaged file is kept as it was.
func setAside(disk *waltest.FS, report wal.Report, before map[string]string) error {
	after := files(disk)
	for _, f := range report.Findings {
		if data, there := before[f.File]; there && after[f.File+".bad"] != data {
			return fmt.Errorf("%s was not set aside", f.File)
		}
		if after[f.File] != "" {
			return fmt.Errorf("%s is still in place", f.File)
		}
	}
	return nil
}

// opensWith checks that a log opens with exactly these records and is of use.
func opensWith(disk *waltest.FS, report wal.Report, intact map[wal.Position]string) error {
	l, err := wal.Open("wal", options(disk))
	if err != nil {
		return fmt.Errorf("after salvage: %w", err)
	}
	got, err := replay(l, 0)
	if err != nil {
		return err
	}
	if !maps.Equal(got, intact) {
		return fmt.Errorf("salvaged %v, intact were %v", keys(got), keys(intact))
	}
	if l.Next() != report.Next || len(got) > 0 && l.First() != report.First {
		return fmt.Errorf("log is [%d, %d), report says [%d, %d)", l.First(), l.Next(), report.First, report.Next)
	}
	return nil
}

func keys(m map[wal.Position]string) []wal.Position { return slices.Sorted(maps.Keys(m)) }

// TestVerify_DamageMatrix damages a small log in every way that TestDamage_NeverWrongData does. Verify must find something
// whenever Open refuses, and nothing but a torn tail when it does not, and what it finds must add up (P11).
func TestVerify_DamageMatrix(t *testing.T) {
	t.Parallel()
	disk, records := smallLog(t)
	var corrupt, torn, sound int
	for _, spoil := range []func([]byte, func(string, []byte)){flipBits, blankSectors, truncate} {
		for segment := 1; segment <= 3; segment++ {
			whole := disk.Bytes(path(segment))
			groups, n := groupOffsets(whole), 0
			spoil(whole, func(what string, data []byte) {
				if n++; n%5 != segment && !long {
					return
				}
				copied := disk.Crash(disk.Ops(), 0)
				copied.SetBytes(path(segment), data)
				report, intact, err := survey(copied)
				if err == nil {
					_, openErr := wal.Open("wal", options(copied.Crash(0, 0)))
					switch {
					case openErr != nil && !report.Damaged():
						err = fmt.Errorf("open says %w, verify %+v", openErr, report.Findings)
					case openErr == nil && report.Damaged():
						err = fmt.Errorf("open is content, verify found %+v", report.Findings)
					case openErr != nil:
						corrupt++
					case len(report.Findings) > 0:
						torn++
					default:
						sound++
					}
				}
				if err == nil {
					sure := wal.Position(35)
					if d := (&damage{segment, what, whole, groups, data}); segment == 3 {
						sure = d.watermark()
					}
					err = kept(copied, report, intact, records, sure)
				}
				if err != nil {
					t.Fatalf("segment %d, %s: %v", segment, what, err)
				}
			})
		}
	}
	t.Logf("%d corrupt, %d torn, %d sound", corrupt, torn, sound)
	require.Positive(t, corrupt)
	require.Positive(t, torn)
	require.Positive(t, sound)
}

func TestVerify_OtherStores(t *testing.T) {
	disk := waltest.New()
	opts := options(disk)
	opts.Store[0] = 1
	l := openWith(t, opts)
	appendAll(t, l, big(1, 40000), big(2, 40000), big(3, 40000))
	require.NoError(t, l.Close())

	report, err := wal.Verify("wal", options(disk), nil)
	require.NoError(t, err)
	require.Equal(t, opts.Store, report.Store, "any store will do")
	require.Empty(t, report.Findings)

	opts.Store[0] = 2
	report, err = wal.Verify("wal", opts, nil)
	require.NoError(t, err)
	require.Len(t, report.Findings, 3)
	require.ErrorIs(t, report.Findings[0].Err, wal.ErrMismatch)
	before := files(disk)
	_, err = wal.Salvage("wal", opts, ".bad")
	require.ErrorIs(t, err, wal.ErrMismatch, "this may be the wrong folder")
	require.Equal(t, before, files(disk))

	// One foreign segment among ours is set aside.
	data := disk.Bytes(path(2))
	data[16] = 9
	disk.SetBytes(path(2), signed(data))
	opts.Store[0] = 1
	report, err = wal.Salvage("wal", opts, ".bad")
	require.NoError(t, err)
	require.Len(t, report.Findings, 1)
	require.ErrorIs(t, report.Findings[0].Err, wal.ErrMismatch)
	require.EqualValues(t, 2, report.Findings[0].From)
	got, err := replay(openWith(t, opts), 0)
	require.NoError(t, err)
	require.Equal(t, []wal.Position{1, 3}, keys(got))
}

// TestVerify_FutureVersion: what a newer program wrote is neither judged nor touched (R46).
func TestVerify_FutureVersion(t *testing.T) {
	disk, _ := smallLog(t)
	data := disk.Bytes(path(2))
	binary.LittleEndian.PutUint32(data[versionAt:], 2)
	disk.SetBytes(path(2), signed(data))
	data = disk.Bytes(path(1))
	data[groupsAt]++ // and damage
	disk.SetBytes(path(1), data)
	before := files(disk)
	report, _, err := survey(disk)
	require.NoError(t, err)
	require.True(t, slices.ContainsFunc(report.Findings, func(f wal.Finding) bool { return errors.Is(f.Err, wal.ErrVersion) }))
	_, err = wal.Salvage("wal", options(disk), ".bad")
	require.ErrorIs(t, err, wal.ErrVersion)
	require.Equal(t, before, files(disk))
}

// TestVerify_BadSector has a block that the device cannot read: the rest of the file counts all the same.
func TestVerify_BadSector(t *testing.T) {
	disk, records := smallLog(t)
	bad := int64(groupOffsets(disk.Bytes(path(1)))[3])
	disk.Inject(func(op waltest.Op) *waltest.Fault {
		if op.Kind == waltest.Read && op.Name == path(1) && op.Off <= bad && op.Off+int64(op.Len) > bad {
			return &waltest.Fault{Err: waltest.ErrIO}
		}
		return nil
	})
	report, got, err := survey(disk)
	require.NoError(t, err)
	require.True(t, report.Damaged())
	lost, _ := lostBy(report)
	require.NotEmpty(t, lost)
	require.Equal(t, len(records), len(lost)+len(got))
}

// TestVerify_Histories has files that are whole each by itself and do not belong together, as a bad restore leaves them:
// what TestDamage_StepBack, TestDamage_OlderCopy and TestDamage_OtherHistory have Open refuse.
func TestVerify_Histories(t *testing.T) {
	whole, other := waltest.New(), waltest.New()
	var older []byte
	for i, disk := range []*waltest.FS{whole, other} {
		l := open(t, disk)
		appendAll(t, l, big(i, 30000))
		older = disk.Bytes(path(1))
		appendAll(t, l, big(2, 30000), big(3, 30000))
		require.NoError(t, l.Close())
	}
	for name, damage := range map[string]func(disk *waltest.FS){
		"steps back": func(disk *waltest.FS) {
			back := disk.Bytes(path(2))
			clear(back[groupsAt:])
			back[numberAt], back[baseAt], back[durableAt] = 3, 1, 0
			disk.SetBytes(path(3), signed(back))
		},
		"older copy":    func(disk *waltest.FS) { disk.SetBytes(path(1), older) },
		"other history": func(disk *waltest.FS) { disk.SetBytes(path(1), other.Bytes(path(1))) },
	} {
		t.Run(name, func(t *testing.T) {
			disk := whole.Crash(whole.Ops(), 0)
			damage(disk)
			_, err := wal.Open("wal", options(disk))
			require.ErrorIs(t, err, wal.ErrCorrupt)
			report, got, err := survey(disk)
			require.NoError(t, err)
			require.Len(t, report.Findings, 1, "%+v", report.Findings)
			require.True(t, report.Damaged())
			report, err = wal.Salvage("wal", options(disk), ".bad")
			require.NoError(t, err)
			require.NoError(t, opensWith(disk, report, got))
		})
	}
}

// TestVerify_BehindTheSeal has a segment with intact groups behind the place where the next one continues: they were torn off
// by a crash, and their numbers were given out again. Damage before that place must not bring them back.
func TestVerify_BehindTheSeal(t *testing.T) {
	disk := waltest.New()
	opts := wal.Options{FS: disk}
	l := openWith(t, opts)
	appendAll(t, l, texts(1, 4)...)
	for i := range 3 {
		_, err := l.Write(big(i, 1<<20-100))
		require.NoError(t, err)
	}
	require.NoError(t, l.Close())
	spoilGroup(1, 4)(disk) // record 5, of the last sync: a torn tail
	l = openWith(t, opts)
	require.Positive(t, l.Recovery().TornBytes)
	appendAll(t, l, texts(5, 9)...)
	require.NoError(t, l.Close())
	report, got, err := survey(disk)
	require.NoError(t, err)
	require.Empty(t, report.Findings)
	require.Equal(t, string(text(6)), got[6])

	spoilGroup(1, 2)(disk) // record 3, the last before the seal
	spoilGroup(2, 0)(disk) // record 4, which was written again
	report, got, err = survey(disk)
	require.NoError(t, err)
	require.Equal(t, []wal.Position{1, 2, 5, 6, 7, 8, 9}, keys(got), "%+v", report.Findings)
	require.Equal(t, string(text(6)), got[6])
	lost, _ := lostBy(report)
	require.Equal(t, map[wal.Position]bool{3: true, 4: true}, lost)
}
