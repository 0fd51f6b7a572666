internal import Consensus
import Coordination
import Daemon
import Digests
import Membership
import Primitives
import Record
import VirtualNetworks

/// What was true of the record that several machines carry, whatever happens to them later. A launcher whose job came to nothing begins another.
struct CertifiedMemories {
    private var jobs: [Digest256: CertifiedMemory] = [:]

    /// What is wrong.
    mutating func check(_ world: World) -> String? {
        for job in world.carriedJobs {
            if let problem = jobs[job, default: CertifiedMemory(job)].check(world) { return problem }
        }
        return nil
    }
    /// At the end.
    func check(final record: Record) -> String? { jobs[record.job]?.check(final: record) }
}

extension World {
    /// Of which somebody who is up carries the record, in the order of hosts.
    fileprivate var carriedJobs: [Digest256] {
        var out: [Digest256] = []
        for host in hosts where network.isUp(host.index) {
            for job in [host.daemon?.elector?.job, host.daemon?.member?.job?.id] {
                if let job, !out.contains(job) { out.append(job) }
            }
        }
        return out
    }
}

/// Of one job.
private struct CertifiedMemory {
    let job: Digest256
    /// By term: whose process has led in it.
    private var leaders: [Int: (host: String, life: Int)] = [:]
    /// By era and size: what was certified.
    private var roots: [Size: Digest256] = [:]
    /// Hashes of entries of which some certificate is known.
    private var certified: [Digest256] = []
    private struct Size: Hashable {
        var era: Int
        var size: Int
    }

    init(_ job: Digest256) { self.job = job }

    mutating func check(_ world: World) -> String? {
        for host in world.hosts where world.network.isUp(host.index) {
            guard let daemon = host.daemon else { continue }
            if let problem = leads(host, daemon) { return problem }
            for (record, certificate) in [
                (daemon.elector?.record, daemon.elector?.certificate),
                (daemon.member?.job?.record, daemon.member?.job?.log.proof),
            ] {
                if let record, record.job == job, let certificate, let problem = holds(certificate, record, host) {
                    return problem
                }
            }
        }
        for host in world.hosts where world.network.isUp(host.index) {
            if let problem = follows(host) { return problem }
        }
        return nil
    }

    /// One leader a term.
    private mutating func leads(_ host: SimulatedHost, _ daemon: DaemonCore) -> String? {
        guard daemon.elector?.job == job, let term = daemon.elector?.leading else { return nil }
        guard let before = leaders[term] else {
            leaders[term] = (host.name, host.lives)
            return nil
        }
        guard before == (host.name, host.lives) else { return "\(before.host) and \(host.name) lead in term \(term)" }
        return nil
    }
    /// Certificates agree.
    private mutating func holds(_ certificate: Certificate, _ record: Record, _ host: SimulatedHost) -> String? {
        let claim = certificate.claim
        let size = Size(era: claim.era, size: claim.size)
        if let before = roots[size], before != claim.root {
            return "\(host.name) has a certificate of \(claim.size) entries that contradicts another"
        }
        roots[size] = claim.root
        guard record.length >= claim.size, claim.size > certified.count else { return nil }
        if let last = certified.last, record.leaf(certified.count - 1).hash != last {
            return "\(host.name) has another entry \(certified.count - 1) than the certified one"
        }
        for index in certified.count..<claim.size { certified.append(record.leaf(index).hash) }
        return nil
    }
    /// No certified entry is lost: whoever leads has all that were certified in terms before, and nobody has committed another.
    private func follows(_ host: SimulatedHost) -> String? {
        guard let daemon = host.daemon else { return nil }
        for record in [daemon.elector?.record, daemon.member?.job?.record].compactMap({ $0 }) where record.job == job {
            let count = min(record.committed, certified.count)
            if count > 0, record.leaf(count - 1).hash != certified[count - 1] {
                return "\(host.name) has committed another entry \(count - 1) than the certified one"
            }
        }
        guard let desk = daemon.elector, desk.job == job, let term = desk.leading, !certified.isEmpty else {
            return nil
        }
        let record = desk.record
        let common = min(record.length, certified.count)
        // What was certified after it, in a term of which it does not know, it need not have.
        let isNewest = !leaders.keys.contains { $0 > term }
        if record.length < certified.count, isNewest {
            return
                "\(host.name) leads in term \(term) with \(record.length) entries, and \(certified.count) are certified"
        }
        guard isNewest, common > 0, record.leaf(common - 1).hash != certified[common - 1] else { return nil }
        return "\(host.name) leads in term \(term), and its entry \(common - 1) is another than the certified one"
    }

    func check(final record: Record) -> String? {
        guard record.length >= certified.count else {
            return "the log has \(record.length) entries, and \(certified.count) were certified"
        }
        guard let last = certified.last, record.leaf(certified.count - 1).hash != last else { return nil }
        return "entry \(certified.count - 1) of the log is another than the certified one"
    }
}
