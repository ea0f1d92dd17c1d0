package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/brokertest"
)

// configHome writes a configuration file for the user of a run.
func configHome(t *testing.T, text string) (env, file string) {
	t.Helper()
	home := t.TempDir()
	file = filepath.Join(home, "oncemq", "config.yaml")
	require.NoError(t, os.Mkdir(filepath.Dir(file), 0o700))
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	return "XDG_CONFIG_HOME=" + home, file
}

// TestConfigPrecedence: the command line goes before the environment, that before the
// profile, that before the rest of the file, also among options that exclude each other.
func TestConfigPrecedence(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	host, port, _ := strings.Cut(strings.TrimPrefix(b.URL(), "mqtt://"), ":")
	for _, topic := range []string{"file", "profile", "other", "env", "flag", "1", "2"} {
		b.Publish(brokertest.Packet{Topic: topic, Payload: []byte("x"), QoS: 1, Retain: true})
	}
	text := `
# What all have in common.
url: ` + b.URL() + `
topic: file
format: "%t from the file"
workers: 1 # of sub alone
timeout: 30s # of pub
profiles:
  nobody:
    url: ` + nobody + `
  one:
    host: ` + host + `
    port: ` + port + `
    topic: profile
  two: {topic: other}
  both:
    topic: ["1", "2"]
`
	for name, test := range map[string]struct {
		args, env []string
		want      string
	}{
		"file":                  {nil, nil, "file from the file\n"},
		"profile":               {[]string{"--profile", "one"}, nil, "profile from the file\n"},
		"profile by variable":   {nil, []string{"ONCEMQ_PROFILE=two"}, "other from the file\n"},
		"environment":           {nil, []string{"ONCEMQ_TOPIC=env"}, "env from the file\n"},
		"command line":          {[]string{"-t", "flag", "-F", "%t"}, []string{"ONCEMQ_TOPIC=env"}, "flag\n"},
		"list":                  {[]string{"--profile", "both", "-C", "2", "-F", "%t"}, nil, "1\n2\n"},
		"host goes before URL":  {[]string{"-h", host, "-p", port, "--profile", "nobody"}, nil, "file from the file\n"},
		"URL of the variable":   {[]string{"--profile", "nobody"}, []string{"ONCEMQ_BROKER=" + b.URL()}, "file from the file\n"},
		"form":                  {[]string{"-v"}, nil, "file x\n"},
		"form by variable":      {[]string{"-o", "raw"}, []string{"ONCEMQ_JSON=true", "ONCEMQ_VERBOSE=true"}, "x"},
		"prefix before ID":      {[]string{"-I", "pre-"}, []string{"ONCEMQ_CLIENT_ID=w1"}, "file from the file\n"},
		"ID before prefix":      {[]string{"-i", "w1"}, []string{"ONCEMQ_ID_PREFIX=pre-"}, "file from the file\n"},
		"group's, without one":  {nil, []string{"ONCEMQ_WINDOW=0.1", "ONCEMQ_LEASE=1ms", "ONCEMQ_DEDUP_KEY=colour", "ONCEMQ_UNSHARED=1"}, "file from the file\n"},
		"exec before out":       {[]string{"--exec", "cat; echo"}, []string{"ONCEMQ_OUT=/nowhere/f", "ONCEMQ_FORMAT=%t"}, "x\n"},
		"pretty, of others":     {nil, []string{"ONCEMQ_PRETTY=true"}, "file from the file\n"},
		"exec's, without it":    {nil, []string{"ONCEMQ_EXEC_TIMEOUT=5", "ONCEMQ_EXEC_GRACE=5"}, "file from the file\n"},
		"host of the variables": {[]string{"--profile", "nobody"}, []string{"ONCEMQ_HOST=" + host, "ONCEMQ_PORT=" + port}, "file from the file\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env, _ := configHome(t, text)
			got := runOnce(t, invocation{args: append([]string{"sub", "-C", "1", "-W", "20"}, test.args...), env: append(test.env, env)})
			require.Equal(t, exitDone, got.code, got.stderr)
			require.Empty(t, got.stderr)
			require.Equal(t, test.want, got.stdout)
		})
	}
	t.Run("another command's", func(t *testing.T) {
		t.Parallel()
		env, _ := configHome(t, text)
		for _, env := range []string{env, "ONCEMQ_TIMEOUT=60s"} {
			// memory: is refused after what --timeout belongs to was looked at.
			got := runOnce(t, invocation{args: []string{"relay", "--store", "memory:"}, env: []string{env}})
			require.Contains(t, got.stderr, "--store: memory: begins empty")
		}
	})
	t.Run("pretty before out", func(t *testing.T) {
		t.Parallel()
		env, _ := configHome(t, text)
		args := []string{"sub", "-C", "1", "-W", "20", "--json", "--pretty"}
		got := runOnce(t, invocation{args: args, env: []string{env, "ONCEMQ_OUT=/nowhere/f"}})
		require.Equal(t, exitDone, got.code, got.stderr)
		require.Contains(t, got.stdout, `"topic": "file"`)
	})
	t.Run("both of the environment", func(t *testing.T) {
		t.Parallel()
		env, _ := configHome(t, text)
		got := runOnce(t, invocation{args: []string{"sub"}, env: []string{env, "ONCEMQ_CLIENT_ID=w1", "ONCEMQ_ID_PREFIX=pre-"}})
		require.Equal(t, exitUsage, got.code)
		require.Contains(t, got.stderr, "--client-id: cannot stand beside --id-prefix")
	})
	t.Run("named file", func(t *testing.T) {
		t.Parallel()
		env, _ := configHome(t, "topic: wrong")
		_, file := configHome(t, text)
		got := runOnce(t, invocation{args: []string{"sub", "-C", "1", "-W", "20", "--config", file}, env: []string{env}})
		require.Equal(t, "file from the file\n", got.stdout, got.stderr)
	})
	t.Run("profile of the file", func(t *testing.T) {
		t.Parallel()
		env, _ := configHome(t, text+"profile: one\n")
		got := runOnce(t, invocation{args: []string{"sub", "-C", "1", "-W", "20"}, env: []string{env}})
		require.Equal(t, "profile from the file\n", got.stdout, got.stderr)
	})
	t.Run("other commands", func(t *testing.T) {
		t.Parallel()
		env, _ := configHome(t, "store: "+fileStore(t)+"\njson: true\n"+text)
		got := runOnce(t, invocation{args: []string{"pub", "-t", "p", "-m", "x", "--message-id", "m"}, env: []string{env}})
		require.Equal(t, exitDone, got.code, got.stderr)
		require.Contains(t, got.stdout, `{"event":"delivered"`)
		got = runOnce(t, invocation{args: []string{"outbox", "stats"}, env: []string{env}})
		require.Equal(t, exitDone, got.code, got.stderr)
		require.Contains(t, got.stdout, `"pending":0`)
	})
}

// TestConfigRefused: a fault is told with the file, the line and what would be right.
func TestConfigRefused(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		text string
		args []string
		want string // FILE is the file's name
	}{
		"unknown key":          {"host: a\ntpoic: b\n", nil, `FILE:2: "tpoic": is not an option; did you mean topic?`},
		"unknown key, far off": {"colour: red\n", nil, `FILE:1: "colour": is not an option`},
		"in another profile":   {"profiles:\n  a:\n    hots: b\n", nil, `FILE:3: "hots": is not an option; did you mean host?`},
		"another name":         {"broker: mqtt://h\n", nil, `FILE:1: "broker": is not a key; the key is called url`},
		"password":             {"password: x\n", nil, `FILE:1: "password": is not a key; the key is called pw`},
		"user":                 {"user: x\n", nil, `FILE:1: "user": is not a key; the key is called username`},
		"client_id":            {"client_id: x\n", nil, `FILE:1: "client_id": is not a key; the key is called client-id`},
		"clientid":             {"clientid: x\n", nil, `FILE:1: "clientid": is not a key; the key is called client-id`},
		"keep_alive":           {"keep_alive: 3\n", nil, `FILE:1: "keep_alive": is not a key; the key is called keepalive`},
		"a letter":             {"P: x\n", nil, `FILE:1: "P": is not a key; the key is called pw`},
		"a variable":           {"ONCEMQ_BROKER: x\n", nil, `FILE:1: "ONCEMQ_BROKER": is not a key; the key is called url`},
		"a server":             {"server: x\n", nil, `FILE:1: "server": is not a key; the key is called url`},
		"capitals":             {"Host: x\n", nil, `FILE:1: "Host": is not a key; the key is called host`},
		"TLS":                  {"tls: true\n", nil, `FILE:1: "tls": is not a key; TLS is asked for by mqtts:// in url`},
		"of one call":          {"message-id: x\n", nil, "FILE:1: message-id: belongs to one call; give it on the command line"},
		"bad value":            {"\n\nqos: 3\n", nil, "FILE:3: qos: 3 is not a level; use 0, 1 or 2"},
		"bad list":             {"filter-out:\n  - a\n  - b/#/c\n", nil, "FILE:3: filter-out: "},
		"list of one":          {"qos: [1, 2]\n", nil, "FILE:1: qos: is a list, and may be given once"},
		"nothing":              {"host:\n", nil, "FILE:1: host: has no value; write one, or leave the key out"},
		"mapping":              {"host: {a: b}\n", nil, "FILE:1: host: is neither a value nor a list of values"},
		"twice":                {"host: a\nport: 1\nhost: b\n", nil, `FILE:3: "host": stands in line 1 already; leave one`},
		"no mapping":           {"- host\n", nil, "FILE:1: the file must be options, such as host: broker.example"},
		"no YAML":              {"host: a\n\tport: 1\n", nil, "FILE:2: is not YAML: "},
		"no UTF-8":             {"host: a\n# caf\xe9\n", nil, "FILE:2: is not UTF-8 here; save it as UTF-8"},
		"two documents":        {"host: a\n---\nhost: b\n", nil, "FILE:"},
		"no such profile":      {"profiles: {prod: {host: a}}\n", []string{"--profile", "prd"}, `--profile: there is no profile "prd" in FILE; did you mean prod?`},
		"file itself":          {"config: x\n", nil, "FILE:1: config: belongs to one call"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env, file := configHome(t, test.text)
			got := runOnce(t, invocation{args: append([]string{"sub", "-t", "a", "-W", "0.1"}, test.args...), env: []string{env}})
			require.Equal(t, exitUsage, got.code, got.stderr)
			want := "oncemq sub: " + strings.ReplaceAll(test.want, "FILE", file)
			require.Truef(t, strings.HasPrefix(got.stderr, want), "got %q, want %q", got.stderr, want)
			require.Len(t, strings.Split(strings.TrimSpace(got.stderr), "\n"), 1)
		})
	}
	got := runOnce(t, command("sub", "-t", "a", "--config", "/nonexistent/file"))
	require.Equal(t, exitUsage, got.code)
	require.True(t, strings.HasPrefix(got.stderr, "oncemq sub: --config: open /nonexistent/file: "), got.stderr)
	got = runOnce(t, command("sub", "-t", "a", "--profile", "x"))
	require.Equal(t, exitUsage, got.code)
	require.True(t, strings.HasPrefix(got.stderr, "oncemq sub: --profile: there is no configuration file"), got.stderr)
}

// TestConfigPassword: a password in a file that others can read is warned of, and shown
// nowhere.
func TestConfigPassword(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	for name, text := range map[string]string{
		"pw":  "pw: sesame\nusername: u\n",
		"url": "url: mqtt://u:sesame@" + strings.TrimPrefix(b.URL(), "mqtt://") + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env, file := configHome(t, text)
			args := []string{"sub", "-t", "a", "-E"}
			if name == "pw" {
				args = append(args, "-L", b.URL())
			}
			got := runOnce(t, invocation{args: args, env: []string{env}})
			require.Equal(t, exitDone, got.code, got.stderr)
			require.Empty(t, got.stderr)
			require.NoError(t, os.Chmod(file, 0o644))
			got = runOnce(t, invocation{args: args, env: []string{env}})
			require.Equal(t, exitDone, got.code, got.stderr)
			require.Equal(t, "oncemq sub: "+file+" holds a password ("+name+") and can be read by others; use password-file, or chmod 600\n", got.stderr)
		})
	}
}

// FuzzConfig: whatever a file holds, it is read, or refused in one line that names it.
func FuzzConfig(f *testing.F) {
	for _, s := range []string{
		"host: a\nport: 1", "topic: [a, b]", "profiles: {a: {host: b}}\nprofile: a", "&a [*a]", "host: !!binary aGk=", "? [a]\n: b", "\xff", "%YAML 9.9",
		"profiles: [a]", "profile: {}", "host: |\n  a\n  b\n", "<<: {host: a}", "qos: 0x1", "debug: yes",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var o subOptions
		c := configFile{name: "c.yaml", options: o.options()}
		c.known, c.also = knownOptions()
		err := c.read([]byte(text), new(configOptions))
		if err == nil {
			return
		}
		line := oneLine(err)
		if !strings.HasPrefix(line, "c.yaml") && !strings.HasPrefix(line, "--profile") || !utf8.ValidString(line) {
			t.Fatalf("error %q", line)
		}
	})
}
