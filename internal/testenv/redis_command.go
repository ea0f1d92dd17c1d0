package testenv

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// probeTimeout is how long a server may take to answer that is looked at over
// and over.
const probeTimeout = 500 * time.Millisecond

// RedisError is an error that Redis has answered, such as "ERR syntax error".
type RedisError string

func (e RedisError) Error() string { return string(e) }

// Command sends a command on a connection of its own, with full rights, and
// returns the answer as redis-cli prints it into a pipe: numbers in decimal, nil
// as nothing, the elements of an array in a line each. It fails the test if the
// answer is an error or there is none.
func (s *RedisServer) Command(args ...string) string {
	s.t.Helper()
	answer, err := s.TryCommand(s.t.Context(), args...)
	if err != nil {
		s.t.Fatalf("testenv: redis: %v", err)
	}
	return answer
}

// TryCommand is Command for what may fail, and for other goroutines than the
// test's. An error that Redis has answered is a RedisError.
func (s *RedisServer) TryCommand(ctx context.Context, args ...string) (string, error) {
	return s.instance.command(ctx, args...)
}

// command connects, logs in and sends one command.
func (r *redisInstance) command(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, DefaultTimeout)
	defer cancel()
	nc, err := new(net.Dialer).DialContext(ctx, "tcp", r.addr())
	if err != nil {
		return "", err
	}
	defer func() { _ = nc.Close() }()
	// The end of ctx ends a wait for an answer.
	defer context.AfterFunc(ctx, func() { _ = nc.SetDeadline(time.Unix(1, 0)) })()
	var request bytes.Buffer
	login := r.admin.login()
	if login != nil {
		request.Write(redisRequest(login))
	}
	request.Write(redisRequest(args))
	if _, err := nc.Write(request.Bytes()); err != nil {
		return "", errors.Join(err, ctx.Err())
	}
	answers := bufio.NewReader(nc)
	if login != nil {
		if _, err := redisAnswer(answers); err != nil {
			return "", fmt.Errorf("AUTH: %w", errors.Join(err, ctx.Err()))
		}
	}
	answer, err := redisAnswer(answers)
	if err != nil {
		return "", fmt.Errorf("%s: %w", args[0], errors.Join(err, ctx.Err()))
	}
	return strings.Join(answer, "\n"), nil
}

func (u redisUser) login() []string {
	switch {
	case u.name != "":
		return []string{"AUTH", u.name, u.password}
	case u.password != "":
		return []string{"AUTH", u.password}
	default:
		return nil
	}
}

func redisRequest(args []string) []byte {
	b := fmt.Appendf(nil, "*%d\r\n", len(args))
	for _, arg := range args {
		b = fmt.Appendf(b, "$%d\r\n%s\r\n", len(arg), arg)
	}
	return b
}

// redisAnswer reads an answer (RESP 2) and flattens it.
func redisAnswer(r *bufio.Reader) ([]string, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return nil, err
	}
	line = strings.TrimSuffix(line, "\r\n")
	if line == "" {
		return nil, errors.New("empty answer")
	}
	kind, text := line[0], line[1:]
	switch kind {
	case '+', ':':
		return []string{text}, nil
	case '-':
		return nil, RedisError(text)
	case '$', '*':
	default:
		return nil, fmt.Errorf("answer begins with %q", kind)
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return nil, fmt.Errorf("length %q: %w", text, err)
	}
	if n < 0 {
		return []string{""}, nil
	}
	if kind == '$' {
		value := make([]byte, n+len("\r\n"))
		if _, err := io.ReadFull(r, value); err != nil {
			return nil, err
		}
		return []string{string(value[:n])}, nil
	}
	var all []string
	var failed error
	for range n {
		// An error inside an array does not end it.
		element, err := redisAnswer(r)
		if refused := RedisError(""); err != nil && !errors.As(err, &refused) {
			return nil, err
		}
		failed = errors.Join(failed, err)
		all = append(all, element...)
	}
	return all, failed
}
