import Foundation
import Testing

/// The page that a process serves, asked as browsers and others would.
@Suite(.serialized) struct `The dashboard` {
    private static let job = """
        name: town
        model: {architecture: llama, hidden_size: 16, layers: 2, heads: 2, kv_heads: 2, intermediate_size: 32, context: 16, tokenizer: byte}
        data: {path: text.txt, validation_fraction: 0.1}
        train: {tokens: 2048, batch_tokens: 128, optimizer: adamw, learning_rate: 3e-3, seed: 1}
        parallel: {virtual_pipelines: 2, micro_batch: 4, inner_steps: 2}
        """
    private static func folder() throws -> URL {
        let folder = try DemoTests.makeFolder()
        func write(_ text: String, _ name: String) throws {
            try text.write(to: folder.appendingPathComponent(name), atomically: true, encoding: .utf8)
        }
        try write(job, "job.yaml")
        try write(String(repeating: "in the beginning ", count: 400), "text.txt")
        return folder
    }

    /// One request on a connection of its own; as much of the answer as there is before it closes, or before it is enough.
    private static func ask(
        _ port: UInt16, _ path: String, _ headers: [String], method: String = "GET",
        until enough: (String) -> Bool = { _ in false }
    )
        -> String
    {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(descriptor) }
        var patience = timeval(tv_sec: 20, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
        var name = sockaddr_in()
        name.sin_family = sa_family_t(AF_INET)
        name.sin_port = port.bigEndian
        name.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        let connected = withUnsafePointer(to: &name) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(descriptor, $0, 16) }
        }
        guard connected == 0 else { return "" }
        let request =
            ([method + " " + path + " HTTP/1.1", "Connection: close"] + headers).joined(separator: "\r\n") + "\r\n\r\n"
        _ = Array(request.utf8).withUnsafeBytes { send(descriptor, $0.baseAddress!, $0.count, Int32(MSG_NOSIGNAL)) }
        var all: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 65_536)
        // A stream has a word each second: it is not read for ever.
        for _ in 0..<1200 {
            if enough(String(decoding: all.suffix(200_000), as: UTF8.self)) { break }
            let count = recv(descriptor, &buffer, buffer.count, 0)
            guard count > 0 else { break }
            all += buffer[..<count]
        }
        return String(decoding: all, as: UTF8.self)
    }
    private static func address(_ text: String) throws -> (port: UInt16, token: String) {
        let found = try #require(text.firstMatch(of: #/http://127\.0\.0\.1:([0-9]+)/open/([0-9a-f]{48})/#), "\(text)")
        return (try #require(UInt16(found.output.1)), String(found.output.2))
    }

    @Test func `lets in who has the address once, and nobody else`() throws {
        let folder = try Self.folder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let node = try Running(
            ["node", "--listen", "127.0.0.1:0", "--data", folder.appendingPathComponent("node").path], folder, "node")
        defer { node.end(SIGKILL) }
        #expect(node.prints("invite"))
        let peer = try Running(
            [
                "peer", "--invite", folder.appendingPathComponent("node/invite.yaml").path, "--listen", "127.0.0.1:0",
                "--data", folder.appendingPathComponent("ada").path, "--name", "<b>ada</b>", "--web",
            ], folder, "ada")
        defer { peer.end(SIGKILL) }
        #expect(peer.prints("/open/") && peer.prints("offers"), "\(peer.text)")
        let (port, token) = try Self.address(peer.text)
        let host = "Host: 127.0.0.1:\(port)"
        #expect(Self.ask(port, "/", [host]).hasPrefix("HTTP/1.1 401 "))
        #expect(Self.ask(port, "/stream", [host]).hasPrefix("HTTP/1.1 401 "))
        #expect(Self.ask(port, "/open/" + String(repeating: "0", count: 48), [host]).hasPrefix("HTTP/1.1 401 "))
        // Another name for this machine, another page, another verb: the token is good for none of them.
        for headers in [
            ["Host: evil.example:\(port)"], ["Host: 127.0.0.1"], ["Host: 127.0.0.1:1"],
            [host, "Origin: http://evil.example"], [host, "Origin: http://127.0.0.1:1"],
            [host, "Sec-Fetch-Site: cross-site"], [host, "Sec-Fetch-Site: same-site"],
        ] {
            #expect(Self.ask(port, "/open/" + token, headers).hasPrefix("HTTP/1.1 403 "), "\(headers)")
        }
        #expect(
            Self.ask(port, "/open/" + token, [host, "Content-Length: 0"], method: "POST").hasPrefix("HTTP/1.1 405 "))
        #expect(Self.ask(port, "/open/" + token, [host], method: "HEAD").hasPrefix("HTTP/1.1 405 "))
        let opened = Self.ask(port, "/open/" + token, [host, "Sec-Fetch-Site: none"])
        #expect(opened.hasPrefix("HTTP/1.1 303 ") && opened.contains("Location: /\r\n"))
        let cookie = try #require(
            opened.firstMatch(of: #/Set-Cookie: (atoll-[0-9]+=[0-9a-f]{48}); HttpOnly; SameSite=Strict; Path=/#))
        #expect(Self.ask(port, "/open/" + token, [host]).hasPrefix("HTTP/1.1 401 "))
        let key = "Cookie: other=1; \(cookie.output.1)"
        let page = Self.ask(port, "/", [host, key])
        #expect(page.hasPrefix("HTTP/1.1 200 "))
        let nonce = try #require(
            page.firstMatch(of: #/Content-Security-Policy: default-src 'none'; script-src 'nonce-([0-9a-f]+)'/#))
        #expect(page.contains("<script nonce=\"\(nonce.output.1)\">"))
        // Nothing comes from elsewhere, and no attribute is script or style.
        for words in ["http://", "https://", " onclick", " style=\"", "innerHTML", "javascript:"] {
            let body = page.components(separatedBy: "\r\n\r\n").dropFirst().joined()
            let allowed = body.replacingOccurrences(of: "http://www.w3.org/2000/svg", with: "")
            #expect(!allowed.contains(words), "\(words)")
        }
        let other = Self.ask(port, "/", [host, key])
        #expect(!other.contains("nonce-\(nonce.output.1)'"))
        #expect(Self.ask(port, "/", [host, "Cookie: \(cookie.output.1.dropLast())0"]).isEmpty == false)
        #expect(Self.ask(port, "/../key", [host, key]).hasPrefix("HTTP/1.1 404 "))
        let stream = Self.ask(port, "/stream", [host, key], until: { $0.contains("ada") })
        #expect(stream.contains("Content-Type: text/event-stream") && stream.contains("data: [[\"z\"],[\"m\","))
        #expect(stream.contains("<b>ada</b>"))
        // A new address is told to the owner.
        let status = try DemoTests.atoll(["status", "--data", folder.appendingPathComponent("ada").path], in: folder)
        let (_, next) = try Self.address(status.out)
        #expect(next != token && Self.ask(port, "/open/" + next, [host]).hasPrefix("HTTP/1.1 303 "))
    }

    /// Its members are asked while somebody looks.
    @Test func `of a launcher says when its members computed a step`() throws {
        let folder = try Self.folder()
        let pool = try RunningPool(folder, peers: 2)
        defer {
            pool.end()
            try? FileManager.default.removeItem(at: folder)
        }
        let job = folder.appendingPathComponent("long.yaml")
        try Self.job.replacingOccurrences(of: "tokens: 2048", with: "tokens: 4_000_000")
            .replacingOccurrences(of: "text.txt", with: folder.appendingPathComponent("text.txt").path).write(
                to: job, atomically: true, encoding: .utf8)
        let launch = try pool.launch(job.path, "out", ["--web", "--no-color"])
        defer { launch.end(SIGKILL) }
        #expect(launch.prints("round_sealed", seconds: 120), "\(launch.text.suffix(2000))")
        let (port, token) = try Self.address(launch.text)
        let host = "Host: 127.0.0.1:\(port)"
        let opened = Self.ask(port, "/open/" + token, [host])
        let cookie = try #require(opened.firstMatch(of: #/Set-Cookie: (atoll-[0-9]+=[0-9a-f]{48});/#))
        let computed = #/\["b",[0-9.]+,[0-9]+,([0-9]+),[0-9.]+,\[(.*?)\]\]\]/#
        // The whole record, which may come in two pieces.
        let stream = Self.ask(port, "/stream", [host, "Cookie: \(cookie.output.1)"]) { $0.contains(computed) }
        let record = try #require(stream.firstMatch(of: computed), "\(stream.suffix(2000))")
        let kinds = Set(record.output.2.matches(of: #/"(fw|bw|uw)",[0-9.]+,[0-9.]+/#).map { String($0.output.1) })
        #expect(kinds.isSuperset(of: ["fw", "bw"]), "\(record.output.0)")
        #expect(Int(record.output.1)! > 0)
    }

    @Test func `is one file of a replay, the same each time`() throws {
        let folder = try Self.folder()
        defer { try? FileManager.default.removeItem(at: folder) }
        try FileManager.default.copyItem(
            atPath: FileManager.default.currentDirectoryPath + "/Topologies/three-homes.yaml",
            toPath: folder.appendingPathComponent("homes.yaml").path)
        func replay(_ file: String) throws -> DemoTests.Run {
            try DemoTests.atoll(["replay", "homes.yaml", "--job", "job.yaml", "--html", file], in: folder, at: folder)
        }
        let run = try replay("run.html")
        #expect(run.code == 0, "\(run.error)")
        let page = try String(contentsOf: folder.appendingPathComponent("run.html"), encoding: .utf8)
        #expect(page.hasPrefix("<!doctype html>") && page.contains("http-equiv=\"Content-Security-Policy\""))
        #expect(page.components(separatedBy: "</script>").count == 3)
        let data = try #require(
            page.components(separatedBy: "id=\"records\">").last?.components(separatedBy: "</script>").first)
        let records = try #require(try JSONSerialization.jsonObject(with: Data(data.utf8)) as? [[Any]])
        let kinds = Set(records.compactMap { $0.first as? String })
        #expect(kinds.isSuperset(of: ["m", "p", "a", "v", "b", "r", "k", "l", "g"]), "\(kinds)")
        #expect(records.count { $0.first as? String == "r" } == 8)
        let times = records.compactMap { $0.count > 1 ? $0[1] as? Double : nil }
        #expect(times == times.sorted() && !times.isEmpty)
        #expect(records.contains { ($0.last as? [String: Any])?["name"] as? String == "studio" })
        // Nothing was computed, and that is said in the place of a loss.
        #expect(records.contains { ($0.last as? [String: Any])?["computed"] as? Bool == false })
        #expect(!run.out.contains("loss=0.0") && run.out.contains("train_loss=not-computed"), "\(run.out)")
        let plans = records.compactMap { ($0.last as? [String: Any])?["plan"] as? String }
        #expect(plans.last?.contains(" stages") == true || plans.last?.contains(" stage,") == true, "\(plans)")
        // The same run, byte for byte.
        _ = try replay("again.html")
        #expect(try String(contentsOf: folder.appendingPathComponent("again.html"), encoding: .utf8) == page)
    }

    @Test func `is not begun where it cannot be written`() throws {
        let folder = try Self.folder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let homes = FileManager.default.currentDirectoryPath + "/Topologies/three-homes.yaml"
        for (option, file, why) in [
            ("--html", "no/such/place.html", "cannot be written"), ("--html", ".", "is a folder"),
            ("--transcript", "no/such/place.txt", "cannot be written"),
        ] {
            let run = try DemoTests.atoll(["replay", homes, "--job", "job.yaml", option, file], in: folder, at: folder)
            #expect(run.code == 2 && run.error.contains("\(option) \(file)") && run.error.contains(why), "\(run.error)")
            #expect(run.out.isEmpty, "nothing was computed")
        }
        let left = try FileManager.default.subpathsOfDirectory(atPath: folder.path)
        #expect(left.contains("job.yaml") && !left.contains { $0.hasSuffix(".part") }, "\(left)")
    }

    @Test func `is of one run only`() throws {
        let folder = try Self.folder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let run = try DemoTests.atoll(["replay", "--storm", "1", "--html", "x.html"], in: folder, at: folder)
        #expect(run.code == 2 && run.error.contains("show one run of a topology"))
        let local = try DemoTests.atoll(["launch", "job.yaml", "--local", "--web"], in: folder, at: folder)
        #expect(local.code == 2 && local.error.contains("--web is for a pool"))
    }
}
