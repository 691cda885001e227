package machine

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const syncCall = "fdatasync"

func (m *Machine) describe() {
	m.System = "linux " + line("/proc/sys/kernel/osrelease")
	m.CPU = cpuModel()
	m.FileSystem, m.Device = mount(m.Dir)
	if queue := queueDir(m.Device); queue != "" {
		m.WriteCache = line(filepath.Join(queue, "write_cache"))
	}
}

// line returns the first line of a file, or "".
func line(file string) string {
	b, _ := os.ReadFile(file)
	first, _, _ := strings.Cut(string(b), "\n")
	return strings.TrimSpace(first)
}

func cpuModel() string {
	b, _ := os.ReadFile("/proc/cpuinfo")
	for l := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(l, ":")
		switch strings.TrimSpace(name) {
		case "model name", "Model", "Hardware":
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// mount returns type and source of the file system that dir is on: that of the
// longest mount point above it, and of several there the last one mounted.
func mount(dir string) (kind, source string) {
	b, _ := os.ReadFile("/proc/self/mountinfo")
	kind, best := Unknown, 0
	for l := range strings.Lines(string(b)) {
		before, after, ok := strings.Cut(l, " - ")
		fields, rest := strings.Fields(before), strings.Fields(after)
		if !ok || len(fields) < 5 || len(rest) < 2 {
			continue
		}
		point := unescape(fields[4])
		if len(point) >= best && isBelow(dir, point) {
			kind, source, best = rest[0], unescape(rest[1]), len(point)
		}
	}
	return kind, source
}

// unescape turns the kernel's octal escapes back.
var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace

func isBelow(dir, point string) bool {
	return dir == point || strings.HasPrefix(dir, strings.TrimSuffix(point, "/")+"/")
}

// blockDir returns the folder of a device in /sys, or "".
func blockDir(device string) string {
	if !strings.HasPrefix(device, "/dev/") {
		return ""
	}
	if real, err := filepath.EvalSymlinks(device); err == nil {
		device = real
	}
	dir, err := filepath.EvalSymlinks("/sys/class/block/" + filepath.Base(device))
	if err != nil {
		return ""
	}
	return dir
}

// queueDir returns where the settings of a device are; those of a partition are its
// disk's.
func queueDir(device string) string {
	dir := blockDir(device)
	if dir == "" {
		return ""
	}
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if queue := filepath.Join(d, "queue"); isDir(queue) {
			return queue
		}
	}
	return ""
}

func isDir(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.IsDir()
}

// busyTime is how long processors have not been idle, since the machine started.
// The fields of the line are user, nice, system, idle, iowait, irq, softirq, steal,
// in hundredths of a second.
func busyTime() (busy time.Duration) {
	fields := strings.Fields(line("/proc/stat"))
	for i := 1; i < len(fields) && i <= 8; i++ {
		n, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return 0
		}
		if i != 4 && i != 5 {
			busy += time.Duration(n) * time.Second / 100
		}
	}
	return busy
}
