"""Commands about hakoniwa itself and what it leaves."""
