import Digests
import Membership
import Primitives
import Record
import Telemetry
import Testing
import Wire

@Suite struct `A desk for the disk` {
    private func request(_ index: Int) -> StorageRequest {
        .chunk(content: sha256([1]), number: index, StoredBytes([UInt8(index)]))
    }
    private func drain(_ desk: inout StorageDesk) -> (stores: [StorageTicket], events: [Happening]) {
        var out: (stores: [StorageTicket], events: [Happening]) = ([], [])
        while let effect = desk.poll() {
            switch effect {
            case .store(let request): out.stores.append(request.ticket)
            case .event(let what): out.events.append(what)
            }
        }
        return out
    }

    @Test func `says once that the disk fails, tries one thing again, then all`() {
        var desk = StorageDesk()
        for index in 0..<4 { desk.store(request(index)) }
        #expect(drain(&desk).stores == (0..<4).map { request($0).ticket })
        #expect(desk.answered(request(0).ticket, .stored(path: ""), at: .zero) == true)
        for index in 1..<4 { #expect(desk.answered(request(index).ticket, .failed("full"), at: .zero) == false) }
        #expect(drain(&desk).events == [.storageFailed(what: "a chunk of the text", why: "full")])
        #expect(desk.isFailing)
        #expect(desk.nextWake == Instant.zero + StorageDesk.pause)
        desk.wake(at: .zero + .seconds(1))
        #expect(drain(&desk).stores == [])
        desk.wake(at: .zero + StorageDesk.pause)
        #expect(drain(&desk).stores == [request(1).ticket])
        #expect(desk.answered(request(1).ticket, .failed("still full"), at: .zero + .seconds(6)) == false)
        #expect(drain(&desk).events == [])
        desk.wake(at: .zero + .seconds(11))
        #expect(drain(&desk).stores == [request(1).ticket])
        #expect(desk.answered(request(1).ticket, .stored(path: ""), at: .zero + .seconds(12)) == true)
        let after = drain(&desk)
        #expect(after.events == [.storageRecovered(what: "a chunk of the text")])
        #expect(after.stores == [request(2).ticket, request(3).ticket])
        #expect(!desk.isFailing)
        #expect(desk.nextWake == nil)
        #expect(desk.answered(request(2).ticket, .stored(path: ""), at: .zero + .seconds(13)) == true)
        // Nobody asked for this one, or it was answered before.
        #expect(desk.answered(request(2).ticket, .stored(path: ""), at: .zero + .seconds(13)) == false)
    }

    /// A disk that fails now and then: everything is durable in the end, and events come in pairs.
    @Test(arguments: 0..<20 as Range<UInt64>)
    func `makes everything durable in the end`(seed: UInt64) {
        var generator = SeededGenerator(seed: seed, stream: 3)
        var desk = StorageDesk()
        var open: [StorageTicket] = []
        var durable: Set<StorageTicket> = []
        var events: [Happening] = []
        var now = Instant.zero
        for step in 0..<3000 {
            now += .milliseconds(50)
            if step < 100 { desk.store(request(step)) }
            desk.wake(at: now)
            let said = drain(&desk)
            open += said.stores
            events += said.events
            guard !open.isEmpty, generator.below(2) == 0 else { continue }
            let ticket = open.removeFirst()
            let fails = step < 2000 && generator.below(3) == 0
            if desk.answered(ticket, fails ? .failed("no") : .stored(path: ""), at: now) { durable.insert(ticket) }
        }
        #expect(durable.count == 100)
        #expect(!desk.isFailing)
        for (index, event) in events.enumerated() {
            if index % 2 == 0 {
                guard case .storageFailed = event else {
                    Issue.record("\(events)")
                    return
                }
            } else {
                guard case .storageRecovered = event else {
                    Issue.record("\(events)")
                    return
                }
            }
        }
    }

    @Test func `forgets what belongs to a job that is over`() {
        var desk = StorageDesk()
        desk.store(request(1))
        desk.store(.erase(job: sha256([7]), content: sha256([8])))
        _ = drain(&desk)
        #expect(desk.answered(request(1).ticket, .failed("full"), at: .zero) == false)
        desk.forget(job: sha256([6]), content: sha256([1]))
        #expect(desk.nextWake == nil)
        #expect(desk.answered(request(1).ticket, .stored(path: ""), at: .zero) == false)
        #expect(desk.answered(.erased(job: sha256([7])), .stored(path: ""), at: .zero) == true)
    }
}
