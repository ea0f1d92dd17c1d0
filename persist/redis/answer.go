package redis

import "strconv"

// asInt reads a number that a script returned, or zero. Lua's numbers come as
// integers, fields of hashes as text.
func asInt(v any) int64 {
	switch v := v.(type) {
	case int64:
		return v
	case string:
		n, _ := strconv.ParseInt(v, 10, 64)
		return n
	}
	return 0
}

func asText(v any) string {
	s, _ := v.(string)
	return s
}

func asList(v any) []any {
	list, _ := v.([]any)
	return list
}

// at is the i-th of a list, or nil.
func at(list []any, i int) any {
	if i < len(list) {
		return list[i]
	}
	return nil
}

// numbers are positions or such as arguments.
func numbers(args []any, list []int64) []any {
	for _, n := range list {
		args = append(args, n)
	}
	return args
}
