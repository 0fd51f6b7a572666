import Foundation
import Testing

/// Something at a daemon's control socket that answers as it is told: what screens say of a state that is hard to bring about.
final class FakeDaemon: @unchecked Sendable {
    let folder: URL
    private let listener: Int32
    private let lock = NSLock()
    private var status: [String: Any]
    private var events: [[String: Any]] = []

    /// - Parameter name: of its folder in that one's `home`.
    init(_ root: URL, _ name: String = "peer", _ status: [String: Any]) throws {
        folder = root.appendingPathComponent("home").appendingPathComponent(name)
        self.status = status
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        listener = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let path = Array(folder.appendingPathComponent("control").path.utf8)
        try #require(path.count < 108)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path) }
        let bound = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(listener, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        try #require(bound == 0 && listen(listener, 8) == 0)
        Thread { [self] in serve() }.start()
    }
    func end() { shutdown(listener, Int32(SHUT_RDWR)) }
    /// What has happened there: a line of docs/EVENTS.md each.
    func tell(_ lines: [String]) {
        lock.withLock {
            events = lines.enumerated().map { ["number": $0 + 1, "seconds_ago": 5.0, "json": $1] }
        }
    }
    private func serve() {
        while true {
            let client = accept(listener, nil, nil)
            guard client >= 0 else { break }
            var line: [UInt8] = []
            var byte: UInt8 = 0
            while read(client, &byte, 1) == 1, byte != 10 { line.append(byte) }
            let asked = try? JSONSerialization.jsonObject(with: Data(line)) as? [String: Any]
            let answer = lock.withLock { () -> [String: Any] in
                guard asked?["command"] as? String == "why" else { return ["status": status] }
                let words = (asked?["about"] as? String ?? "").split(separator: "|")
                return [
                    "events": events.filter { event in
                        words.isEmpty || words.contains { (event["json"] as? String ?? "").contains($0) }
                    }
                ]
            }
            let bytes = [UInt8]((try? JSONSerialization.data(withJSONObject: answer)) ?? Data()) + [10]
            _ = bytes.withUnsafeBytes { write(client, $0.baseAddress!, $0.count) }
            close(client)
        }
        close(listener)
    }

    /// A peer that works for a job, with what a test says otherwise.
    static func peer(
        _ member: [String: Any] = [:], overlay: [String: Any] = [:], _ more: [String: Any] = [:]
    ) -> [String: Any] {
        let all: [String: Any] = [
            "name": "den", "memory_mebibytes": 1024.0, "state": "free", "doing": "free", "accepts": ["cdcdcdcd"],
        ].merging(member) { $1 }
        let seen: [String: Any] = [
            "is_joined": true, "contacts": 3, "is_reachable": true, "berths": [String](),
        ].merging(overlay) { $1 }
        return [
            "uptime_seconds": 500.0, "process": 7, "listening": "192.0.2.1:7070", "sent_bytes": 1,
            "received_bytes": 1,
            "daemon": [
                "id": String(repeating: "ab", count: 32), "overlay": seen, "connections": [[String: Any]](),
                "member": all,
            ] as [String: Any],
            "limits": [
                "mode": "work", "reasons": [[String: Any]](), "unseen": [[String: Any]](),
                "values": [
                    [
                        "key": "up_mbps", "value": "none",
                        "meaning": "most that is sent, over all sockets together; the local network apart",
                    ]
                ], "cpu_percent": 100.0, "is_lowest_priority": true, "month": 202_611, "month_sent_bytes": 0,
                "month_received_bytes": 0,
            ] as [String: Any],
        ].merging(more) { $1 }
    }
    /// In the middle of a job.
    static var working: [String: Any] {
        [
            "state": "working", "doing": "step 3/8", "job": String(repeating: "cd", count: 32), "job_name": "village",
            "leader": "77aa10ff", "launcher": "77aa10ff", "is_leader_connected": true, "term": 1, "round": 12,
            "step": 96,
            "units": [2, 4],
            "work": [
                "rank": 0, "stage": 1, "stages": 3, "parameters": 1_100_000, "tokens": 43_000, "tokens_total": 100_000,
                "train_loss": 2.412, "round_seconds": 3.3, "usual_round_seconds": 3.2,
                "micro_batches": [
                    "counted": 92, "late": 4, "lost": 0, "superseded": 3, "under_way": 0, "rounds": 12,
                ],
            ] as [String: Any],
        ]
    }
}
