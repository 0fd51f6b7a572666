import EventLoop
import Glibc
import Primitives
import Testing

/// Ends a test that waits for something that never comes.
func run(_ loop: Loop, _ what: String = "the loop") {
    let guardian = Timer(loop) {
        Issue.record("\(what) did not finish")
        loop.stop()
    }
    guardian.arm(at: loop.now + .seconds(30))
    loop.run()
    guardian.close()
}
let anyPort = Endpoint(ipv4: 127, 0, 0, 1, port: 0)

@Test func `timers fire in the order of their moments, never early, and disarmed ones not at all`() {
    let loop = Loop()
    var fired: [Int] = []
    var timers: [Timer] = []
    // Late enough for all to be armed by then, on a machine that does other things too.
    let start = loop.now + .milliseconds(200)
    for index in [3, 1, 2, 0] {
        let timer = Timer(loop) {
            #expect(loop.now >= start + .milliseconds(2 * index))
            fired.append(index)
            if index == 3 { loop.stop() }
        }
        timer.arm(at: start + .milliseconds(2 * index))
        timers.append(timer)
    }
    let never = Timer(loop) { Issue.record("it was disarmed") }
    never.arm(at: start)
    never.arm(at: nil)
    run(loop)
    #expect(fired == [0, 1, 2, 3])
    timers.forEach { $0.close() }
}

@Test func `work posted by other threads and soon by the loop runs on the loop`() {
    let loop = Loop()
    let pool = WorkPool(loop, threads: 1)
    var order: [String] = []
    loop.post { loop.soon { loop.stop() } }
    loop.soon { order.append("soon") }
    run(loop)
    pool.close()
    #expect(order == ["soon"])
}

@Test func `jobs of one queue run in order, one at a time, and finish on the loop`() {
    let loop = Loop()
    let pool = WorkPool(loop, threads: 2, niceness: 5)
    let queues = [pool.makeQueue(), pool.makeQueue()]
    let here = pthread_self()
    var results: [[Int]] = [[], []]
    for n in 0..<200 {
        for q in 0..<2 {
            queues[q].submit {
                n * n
            } then: { square in
                #expect(pthread_self() == here)
                results[q].append(square)
                if results.allSatisfy({ $0.count == 200 }) { loop.stop() }
            }
        }
    }
    run(loop)
    #expect(results == [[Int]](repeating: (0..<200).map { $0 * $0 }, count: 2))
    pool.close()
}

@Test func `a job that ends after the loop was closed wakes nobody`() {
    let loop = Loop()
    let pool = WorkPool(loop, threads: 1)
    pool.makeQueue().submit({ usleep(50_000) }) { _ in Issue.record("the loop was closed") }
    loop.close()
    pool.close()
    loop.post { Issue.record("the loop was closed") }
}

@Test func `datagrams travel between two sockets with their sender's endpoint`() throws {
    let loop = Loop()
    var answers: [[UInt8]] = []
    var echo: UDPSocket?
    echo = try UDPSocket(loop, bind: anyPort) { bytes, sender in echo?.send(bytes.reversed(), to: sender) }
    let client = try UDPSocket(loop, bind: anyPort) { bytes, sender in
        #expect(sender == echo?.endpoint)
        answers.append([UInt8](bytes))
        if answers.count == 3 { loop.stop() }
    }
    for n: UInt8 in 1...3 { client.send([n, 0, 9], to: try #require(echo?.endpoint)) }
    run(loop)
    #expect(answers.sorted { $0[2] < $1[2] } == [[9, 0, 1], [9, 0, 2], [9, 0, 3]])
    echo?.close()
    client.close()
    client.send([1], to: anyPort)
}

@Test func `a port in use is reported with what to try`() throws {
    let loop = Loop()
    let first = try TCPListener(loop, listen: anyPort) { _ in }
    let taken = try #require(first.endpoint)
    let error = #expect(throws: SocketError.addressInUse(taken)) { try TCPListener(loop, listen: taken) { _ in } }
    #expect(try #require(error?.description).contains("Choose another port"))
    #expect(throws: SocketError.addressNotAvailable(Endpoint(ipv4: 192, 0, 2, 1, port: 4000))) {
        try UDPSocket(loop, bind: Endpoint(ipv4: 192, 0, 2, 1, port: 4000)) { _, _ in }
    }
    first.close()
}

@Test func `a stream dials from the listening port of another address, and carries bytes to its end`() throws {
    let loop = Loop()
    var received: [UInt8] = []
    var dialler: Endpoint?
    var accepted: TCPStream?
    let here = try TCPListener(loop, listen: Endpoint(ipv4: 127, 77, 0, 3, port: 0)) { _ in }
    let there = try TCPListener(loop, listen: Endpoint(ipv4: 127, 77, 0, 4, port: 0)) { stream in
        accepted = stream
        dialler = stream.remoteEndpoint
        stream.startReading(
            read: { received += $0 },
            ended: { error in
                #expect(error == .ended)
                loop.stop()
            })
    }
    let payload = (0..<1_000_000).map { UInt8(truncatingIfNeeded: $0 * 31) }
    var stream: TCPStream?
    stream = try TCPStream.dial(loop, to: try #require(there.endpoint), from: here.endpoint) { error in
        #expect(error == nil)
        payload.withUnsafeBytes { stream?.write($0) }
        stream?.finishWriting()
    }
    run(loop)
    #expect(received == payload)
    #expect(dialler == here.endpoint)
    stream?.close()
    accepted?.close()
    #expect(stream?.unsentBytes == 0)
}

@Test func `a dial to where nobody listens fails with the endpoint`() throws {
    let loop = Loop()
    let listener = try TCPListener(loop, listen: anyPort) { _ in }
    let gone = try #require(listener.endpoint)
    listener.close()
    var failure: SocketError?
    let stream = try TCPStream.dial(loop, to: gone, from: nil) { error in
        failure = error
        loop.stop()
    }
    run(loop)
    #expect(failure == .connectionRefused(gone))
    stream.close()
}

@Test func `a signal is reported on the loop`() {
    let loop = Loop()
    var count = 0
    let watcher = SignalWatcher(loop, signal: SIGUSR2) {
        count += 1
        loop.stop()
    }
    loop.soon { kill(getpid(), SIGUSR2) }
    run(loop)
    #expect(count == 1)
    watcher.close()
}

@Test func `a gate holds jobs back, lets them go, and has the thread rest and give way`() {
    let loop = Loop()
    let pool = WorkPool(loop, threads: 1)
    let queue = pool.makeQueue()
    let gate = WorkGate()
    var done: [String] = []
    gate.set(isShut: true, share: 1, lowestPriority: true)
    for name in ["first", "second"] {
        queue.submit({
            gate.pass { () -> Int32 in
                usleep(name == "first" ? 20_000 : 0)
                return sched_getscheduler(0)
            }
        }) { policy in
            // SCHED_IDLE.
            #expect(policy == 5)
            done.append(name)
            if done.count == 2 { loop.stop() }
        }
    }
    let timer = Timer(loop) {
        #expect(done.isEmpty, "it was shut")
        gate.set(isShut: false, share: 0.25, lowestPriority: false)
    }
    let opened = loop.now + .milliseconds(30)
    timer.arm(at: opened)
    run(loop)
    #expect(done == ["first", "second"])
    // The second begins when the thread has rested three times as long as the first took.
    #expect(loop.now - opened >= .milliseconds(80))
    gate.open()
    timer.close()
    pool.close()
}

@Test func `a gate that yields leaves out what is long, also what waits there, and lets pass what is short`() {
    let loop = Loop()
    let pool = WorkPool(loop, threads: 1)
    let queue = pool.makeQueue()
    let gate = WorkGate()
    var done: [String?] = []
    gate.set(isShut: true, share: 1, lowestPriority: false)
    func submit(_ name: String, isLong: Bool, _ then: @escaping () -> Void = {}) {
        queue.submit({ gate.pass(isLong: isLong) { name } }) { result in
            done.append(result)
            then()
        }
    }
    submit("a forward", isLong: true)
    submit("a copy", isLong: false)
    submit("another forward", isLong: true) {
        // It is over, and still shut: what comes now waits.
        gate.yields(false)
        submit("a copy", isLong: false) { loop.stop() }
        #expect(done == [nil, "a copy", nil])
        gate.set(isShut: false, share: 1, lowestPriority: false)
    }
    gate.yields(true)
    run(loop)
    #expect(done == [nil, "a copy", nil, "a copy"])
    pool.close()
}

/// The loop that a thread wakes may take the processor from that very thread: it must not wait for it.
@Test func `a thread of the lowest priority rings the loop as cheaply as any other`() {
    func seconds(lowestPriority: Bool) -> Double {
        let loop = Loop()
        let pool = WorkPool(loop, threads: 1)
        let queue = pool.makeQueue()
        let gate = WorkGate()
        gate.set(isShut: false, share: 1, lowestPriority: lowestPriority)
        var left = 4000
        func next() {
            queue.submit({ gate.pass {} }) { _ in
                left -= 1
                if left == 0 { loop.stop() } else { next() }
            }
        }
        let start = threadSeconds()
        next()
        run(loop)
        defer { pool.close() }
        return threadSeconds() - start
    }
    let usual = seconds(lowestPriority: false)
    let lowest = seconds(lowestPriority: true)
    #expect(lowest < 4 * usual + 0.02, "\(lowest) s of the loop's thread, \(usual) otherwise")
}
private func threadSeconds() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
}
