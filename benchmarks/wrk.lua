-- What wrk found, as one line of JSON: its own output rounds.
function done(summary, latency, requests)
    local errors = summary.errors
    print(string.format(
        '{"requests": %d, "seconds": %.6f, "failures": %d, "p50": %.6f, "p99": %.6f}',
        summary.requests,
        summary.duration / 1e6,
        errors.connect + errors.read + errors.write + errors.timeout + errors.status,
        latency:percentile(50) / 1e6,
        latency:percentile(99) / 1e6
    ))
end
