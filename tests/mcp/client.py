"""Lists and calls the tools of a VM with the Python SDK of MCP. Prints the revision of the protocol that they speak, and the
name that the VM has for itself. Arguments: the server's command line."""

import asyncio
import sys

from mcp import StdioServerParameters


async def use(call, names):
    assert names == ["file_read", "file_write", "file_delete", "run_command"], names
    heard = []

    async def progress(done, _total, message):
        heard.append((done, message))

    written = await call("file_write", {"path": "/tmp/note", "content": "hello", "create_folders": True})
    assert written["created"] is True, written
    read = await call("file_read", {"path": "/tmp/note"})
    assert read["content"] == "hello", read
    ran = await call("run_command", {"script": "echo first; sleep 1; echo last; exit 3"}, progress)
    assert (ran["stdout"], ran["exit_code"]) == ("first\nlast\n", 3), ran
    assert heard[0] == (6, "first\n") and "".join(text for _, text in heard) == ran["stdout"], heard
    await call("file_delete", {"path": "/tmp/note"})
    return (await call("run_command", {"argv": ["uname", "-n"]}))["stdout"].strip()


async def newest(server):
    from mcp.client.client import Client

    async with Client(server) as client:

        async def call(name, arguments, progress=None):
            result = await client.call_tool(name, arguments, progress_callback=progress)
            assert not result.is_error, result
            return result.structured_content

        host_name = await use(call, [tool.name for tool in (await client.list_tools()).tools])
        return client.protocol_version, host_name


async def before(server):
    from mcp import ClientSession
    from mcp.client.stdio import stdio_client

    async with stdio_client(server) as (reading, writing), ClientSession(reading, writing) as session:
        revision = (await session.initialize()).protocolVersion

        async def call(name, arguments, progress=None):
            result = await session.call_tool(name, arguments, progress_callback=progress)
            assert not result.isError, result
            return result.structuredContent

        return revision, await use(call, [tool.name for tool in (await session.list_tools()).tools])


def main():
    from importlib.metadata import version
    from os import environ

    # The SDK gives a server only a few of its own variables.
    server = StdioServerParameters(command=sys.argv[1], args=sys.argv[2:], env=dict(environ))
    talk = before if version("mcp").startswith("1.") else newest
    print(*asyncio.run(talk(server)))


main()
