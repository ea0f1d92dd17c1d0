// Package testenv gives tests real servers and real processes, which they may
// kill.
//
//	m := testenv.Mosquitto(t, testenv.MosquittoOptions{Persistence: true})
//	run(m.URL())
//	m.Kill()   // SIGKILL: what was not saved is lost
//	m.Start()  // the same port and data
//
//	bin := testenv.Build(t, "./cmd/oncemq")
//	p := testenv.Start(t, exec.Command(bin, "relay", "--store", store))
//	p.Stdout.WaitFor(ctx, func(line string) bool { return line == "ready" })
//	p.Kill()
//
// A server that is not installed skips the test with the reason; with
// ONCEMQ_REQUIRE_SERVERS=1, which "make test" sets, it fails the test instead.
package testenv
