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
// PostgreSQL and Redis are there for one test, which may kill them, or shared by
// the tests of a process, which is faster:
//
//	pg := testenv.Postgres(t, testenv.PostgresOptions{})
//	pg.Pause()                       // SIGSTOP to every process of it
//	own := testenv.SharedPostgres(t) // an empty database for this test
//	r := testenv.SharedRedis(t)      // keep apart by a prefix
//
// There are more than single servers: PostgresServer.Standby, PgBouncer,
// RedisServer.Replica, RedisSentinel and RedisCluster.
//
// Nothing is left when a test ends. When the test process dies, of its time limit
// for instance, its servers die too; a folder may stay then.
//
// A server that is not installed skips the test with the reason; with
// ONCEMQ_REQUIRE_SERVERS=1, which "make test" sets, it fails the test instead.
package testenv
