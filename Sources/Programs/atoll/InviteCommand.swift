import ArgumentParser
import Digests
import Foundation
import Node
import Pools
import Primitives

/// `atoll invite`: who may join a pool that keeps members, and who may not stay. docs/MEMBERSHIP.md tells it.
struct InviteCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "invite", abstract: "Invites to a pool that keeps members: make, list, take back.",
        discussion: """
            For whoever made the pool with `atoll node --members`. An invite is a file with a key of its own, which lets so many in; who has joined has a \
            certificate, which renews itself. Others do it with `atoll peer --invite FILE`.
            """,
        subcommands: [Create.self, List.self, Revoke.self, Rotate.self])

    struct Folder: ParsableArguments {
        @Option(help: "The folder of the node that keeps the pool (default: ~/.atoll/node).") var data: String?
        var path: String { data ?? Home.path + "/node" }

        func book() throws -> PoolBook {
            _ = try PoolEntry.authority(in: path)
            let key = try DataFolder.loadKey(path + "/key")
            guard let book = try PoolEntry.book(in: path, of: key.peerID) else {
                throw NodeError.badInput(
                    "\(path) has an authority's key and no pool: start its node with `atoll node --members`")
            }
            return book
        }
    }

    struct Create: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Make an invite for one or some, which ends by itself.")
        @OptionGroup var folder: Folder
        @Option(help: "member (works, launches, carries) or watcher (meets others and reads jobs' logs).") var role =
            "member"
        @Option(help: "How many may join by it: 1 to 1000, or any.") var uses = "1"
        @Option(help: "When it ends: 30m, 12h, 7d.") var expires = "7d"
        @Option(help: "Of the certificates that come of it: 1h to 366d; they renew themselves at half of it.")
        var life = "14d"
        @Option(help: "Where it goes (default: invite-ID.yaml here); - for standard output.") var out: String?
        @Flag(help: "As JSON: `invite`, `file`, `role`, `uses` (null for any), `expires` (seconds since 1970).")
        var json = false

        func run() throws {
            guard let role = MemberRole(word: role) else {
                let known = MemberRole.allCases.map(\.word).joined(separator: " or ")
                throw NodeError.badInput("--role \(role): \(known)")
            }
            let authority = try PoolEntry.authority(in: folder.path)
            let own = try Invite(file: folder.path + "/invite.yaml")
            guard !own.isWithoutNodes else {
                throw NodeError.badInput(
                    "\(folder.path)/invite.yaml names no address yet: start the node once, so that it says where it is")
            }
            let (now, lasts) = (Int64(time(nil)), try duration(expires, "--expires", 60...366 * 86_400))
            let issuing = PoolEntry.issue(
                by: authority, role: role, uses: try count(), expires: now + lasts,
                life: try duration(life, "--life", Warrant.lives), at: now)
            var invite = Invite(name: own.name, issuing, bootstrap: own.bootstrap, accept: own.accept)
            invite.names = own.names
            let path = out ?? "invite-\(issuing.warrant.id.short).yaml"
            guard path == "-" || !isThere(path) else {
                throw NodeError.badInput("\(path) is there already. Choose another place with --out")
            }
            try PoolEntry.note(issuing.warrant, in: folder.path)
            do {
                if path == "-" {
                    print(invite.text, terminator: "")
                    return try Output.require()
                }
                try writeFile(path, Array(invite.text.utf8), mode: 0o600)
            } catch {
                // An invite that nobody has is none.
                try? PoolEntry.forget(issuing.warrant, in: folder.path)
                throw error
            }
            tell(issuing.warrant, path)
        }
        private func count() throws -> Int? {
            if uses == "any" { return nil }
            guard let count = Int(uses), (1...Warrant.usesMax).contains(count) else {
                throw NodeError.badInput("--uses \(uses): 1 to \(Warrant.usesMax), or any")
            }
            return count
        }
        private func tell(_ warrant: Warrant, _ path: String) {
            if json {
                return print(
                    jsonText([
                        "invite": warrant.id.hex, "file": path, "role": warrant.role.word,
                        "uses": warrant.uses.map { $0 as Any } ?? NSNull(), "expires": warrant.expires,
                    ]))
            }
            let whom = warrant.uses.map { $0 == 1 ? "one" : "\($0)" } ?? "any number"
            print("invite \(warrant.id.short) for \(whom), as \(warrant.role.word), for \(expires): \(path)")
            print("they join with: atoll \(warrant.role == .member ? "peer --invite FILE" : "watch JOB --invite FILE")")
        }
    }

    struct List: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "What was made, who has joined by it, and who was removed.")
        @OptionGroup var folder: Folder
        @Flag(help: "As JSON: `invites` and `removed` (docs/MEMBERSHIP.md).") var json = false

        func run() throws {
            let (book, now) = (try folder.book(), Int64(time(nil)))
            let invites = try PoolEntry.invites(in: folder.path)
            if json { return print(jsonText(object(invites, book, now))) }
            for warrant in invites {
                let uses = warrant.uses.map { "used \(book.joined(by: warrant.id).count) of \($0)" } ?? "for any number"
                let who = book.joined(by: warrant.id).map(\.short).joined(separator: " ")
                print(
                    "\(warrant.id.short)  \(warrant.role.word)  \(uses)  \(Self.state(warrant, book, now))\(who.isEmpty ? "" : "  by \(who)")"
                )
            }
            if invites.isEmpty { print("no invites were made here") }
            for peer in book.removedPeers { print("removed \(peer.hex)") }
        }
        private func object(_ invites: [Warrant], _ book: PoolBook, _ now: Int64) -> [String: Any] {
            [
                "invites": invites.map { warrant in
                    [
                        "invite": warrant.id.hex, "role": warrant.role.word,
                        "uses": warrant.uses.map { $0 as Any } ?? NSNull(),
                        "joined": book.joined(by: warrant.id).map(\.hex), "expires": warrant.expires,
                        "state": State(warrant, book, now).rawValue,
                    ] as [String: Any]
                },
                "removed": book.removedPeers.map(\.hex),
            ]
        }
        /// What an invite is good for.
        private enum State: String {
            case open, used_up, expired, revoked, revoked_with_members
            init(_ warrant: Warrant, _ book: PoolBook, _ now: Int64) {
                if book.revoked(.inviteAndMembers, warrant.id) != nil {
                    self = .revoked_with_members
                } else if book.revoked(.invite, warrant.id) != nil {
                    self = .revoked
                } else if now >= warrant.expires {
                    self = .expired
                } else if let uses = warrant.uses, book.joined(by: warrant.id).count >= uses {
                    self = .used_up
                } else {
                    self = .open
                }
            }
        }
        private static func state(_ warrant: Warrant, _ book: PoolBook, _ now: Int64) -> String {
            let state = State(warrant, book, now)
            guard state == .open else { return state.rawValue.split(separator: "_").joined(separator: " ") }
            let left = warrant.expires - now
            return left >= 2 * 86_400
                ? "for \(left / 86_400) days"
                : left >= 7200
                    ? "for \(left / 3600) hours" : left < 60 ? "for a minute" : "for \(left / 60 + 1) minutes"
        }
    }

    struct Revoke: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Take an invite back, or remove a member.",
            discussion: """
                A member that is removed is refused by all others as soon as they hear of it, which takes seconds, and for ever. The invite that it came by \
                is closed as well, so that it does not come back by it under another name.
                """)
        @Argument(help: "An invite's ID, a peer's key, or the first eight digits or more of one of them.") var what:
            String
        @OptionGroup var folder: Folder
        @Flag(help: "Of an invite: remove all who have joined by it, too.") var members = false
        @Flag(help: "Of a peer: leave the invite open that it came by.") var keepInvite = false

        func run() throws {
            print(try order().perform(in: folder.path))
        }
        private func order() throws -> PoolOrder {
            let book = try folder.book()
            let digits = what.lowercased()
            guard digits.count >= 8, digits.count <= 64, digits.allSatisfy(\.isHexDigit) else {
                throw NodeError.badInput(
                    "\(what): an invite's ID or a peer's key expected, or the first eight digits or more (atoll invite list)"
                )
            }
            let invites = try PoolEntry.invites(in: folder.path).filter { $0.id.hex.hasPrefix(digits) }
            if invites.count == 1 { return PoolOrder(members ? .inviteAndMembers : .invite, invites[0].id.hex) }
            let joined = try PoolEntry.invites(in: folder.path).flatMap { book.joined(by: $0.id) }
            let peers = Set((joined.map(\.hex) + (digits.count == 64 ? [digits] : [])).filter { $0.hasPrefix(digits) })
            guard invites.isEmpty, peers.count == 1, let peer = peers.first else {
                throw NodeError.badInput(
                    invites.count + peers.count > 1
                        ? "\(what) is the beginning of several: give more digits"
                        : "no invite of \(folder.path) and no member that joined by one of few uses begins with \(what). A peer's whole key has 64 digits "
                            + "(atoll identity on its machine; atoll status shows the others')")
            }
            guard !members else { throw NodeError.badInput("--members is for an invite, and \(what) is a peer") }
            return PoolOrder(keepInvite ? .peerOnly : .peer, peer)
        }
    }

    struct Rotate: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Give the pool another key. Members hear of it; the old one stays right for a while.")
        @OptionGroup var folder: Folder
        @Option(help: "How long both keys are right: 15m to 30d.") var overlap = "3d"

        func run() throws {
            _ = try folder.book()
            let seconds = try duration(overlap, "--overlap", 900...30 * 86_400)
            print(try PoolOrder(.key, String(seconds)).perform(in: folder.path))
        }
    }
}

/// "7d", "12h", "30m" or "90s".
private func duration(_ text: String, _ option: String, _ allowed: ClosedRange<Int64>) throws -> Int64 {
    let units: [Character: Int64] = ["s": 1, "m": 60, "h": 3600, "d": 86_400]
    guard let unit = text.last.flatMap({ units[$0] }), let count = Int64(text.dropLast()),
        (0...100_000_000).contains(count),
        allowed.contains(count * unit)
    else {
        throw NodeError.badInput(
            "\(option) \(text): a number with s, m, h or d expected, from \(allowed.lowerBound) s to \(allowed.upperBound / 86_400) d"
        )
    }
    return count * unit
}
